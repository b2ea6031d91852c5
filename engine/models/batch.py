"""What the planner hands to a runtime: sequences laid end to end, with no padding between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.architecture import Architecture
from engine.ragged import offsets_of

__all__ = ["PackedBatch", "position_ids"]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """n sequences of token ids, laid end to end.

    Attributes:
        tokens: int32[total], ids with the special tokens in place.
        types: int32[total], token type ids; None when all are zero.
        starts: int32[n + 1], where each sequence begins, then the total.
        longest: tokens in the longest sequence.
    """

    tokens: NDArray[np.int32]
    types: NDArray[np.int32] | None
    starts: NDArray[np.int32]
    longest: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def part(self, begin: int, end: int) -> "PackedBatch":
        """The sequences from `begin` to before `end`, at least one; its tokens are a view of these."""
        starts = self.starts[begin : end + 1]
        rows = slice(int(starts[0]), int(starts[-1]))
        types = None if self.types is None else self.types[rows]
        return PackedBatch(self.tokens[rows], types, starts - starts[0], int(np.diff(starts).max()))


def position_ids(batch: PackedBatch, architecture: Architecture) -> NDArray[np.int32]:
    """The position id of every token, int32[total].

    RoBERTa's families number only tokens that are no padding, and a passage may hold the text `<pad>`.
    """
    lengths = np.diff(batch.starts)
    counts = np.arange(len(batch.tokens), dtype=np.int32)
    padding = architecture.padding
    if padding is not None and (padded := batch.tokens == padding).any():
        counted = offsets_of(~padded)
        relative = counted[1:] - np.repeat(counted[batch.starts[:-1]], lengths) - 1
        return np.where(padded, padding, relative + architecture.position_offset).astype(np.int32)
    return counts - np.repeat(batch.starts[:-1] - np.int32(architecture.position_offset), lengths)

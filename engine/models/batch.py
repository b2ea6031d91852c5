"""What the planner hands to a runtime: sequences laid end to end, with no padding between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedBatch"]


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

"""Attention over packed sequences: each token sees its own sequence, and nothing is padded that need not be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import signature
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from engine.ragged import ranges

__all__ = ["Attention", "BucketedAttention", "PackedBounds", "ProductAttention", "VarlenAttention", "choose_attention"]

_WIDEST_HEAD = 256
"""What FlashAttention's kernels take, in steps of 8; torch's dense attention pads what they do not."""
_FUSED_ABOVE = 160 * 160
"""Scores of one head above which torch's fused attention is the faster in fp32."""
_CACHED_SCORES = 1 << 18
"""Scores computed at once on a CPU: a MiB in fp32, what the second cache of a core holds."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring sequences that dense attention takes together.

    Attributes:
        begin, end: the first, and the one past the last.
        length: tokens of the longest.
        index: int64[n, length], the batch's token at each place of the padded run; None where nothing is padded.
        real: bool[n, length], whether the place is a token of its sequence; None likewise.
        places: int64[tokens], where the tokens lie in the padded run; None likewise.
    """

    begin: int
    end: int
    length: int
    index: torch.Tensor | None = None
    real: torch.Tensor | None = None
    places: torch.Tensor | None = None


@dataclass(frozen=True)
class PackedBounds:
    """Where the sequences of one packed batch lie.

    Attributes:
        bounds: n + 1 offsets on the host.
        starts: the same, int32[n + 1] on the device.
        longest: tokens of the longest sequence.
    """

    bounds: Sequence[int]
    starts: torch.Tensor
    longest: int

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @cached_property
    def lengths(self) -> torch.Tensor:
        """int32[n] on the device."""
        return self.starts.diff()

    @cached_property
    def ordinals(self) -> torch.Tensor:
        """int32[n + 1] on the device: the bounds of n sequences of one token."""
        return torch.arange(len(self) + 1, dtype=torch.int32, device=self.starts.device)

    def runs(self, padding: float) -> Sequence[_Run]:
        """Runs of neighbours, each padded by at most this share of its tokens; made once for all layers.

        Where the tokens lie is worked out here, as a GPU asked for it would make the host wait at every layer.
        """
        if padding not in self._runs:
            self._runs[padding] = [self._run(begin, end) for begin, end in runs(self.bounds, padding)]
        return self._runs[padding]

    @cached_property
    def _runs(self) -> dict[float, list[_Run]]:
        return {}

    def _run(self, begin: int, end: int) -> _Run:
        lengths = np.diff(self.bounds[begin : end + 1])
        length = int(lengths.max())
        if lengths.min() == length:
            return _Run(begin, end, length)
        column = torch.arange(length, device=self.starts.device)
        index = (self.starts[begin:end, None] + column).clamp(max=self.bounds[end] - 1)
        places = torch.from_numpy(ranges(np.arange(end - begin) * length, lengths)).to(self.starts.device)
        return _Run(begin, end, length, index, column < self.lengths[begin:end, None], places)


class Attention(Protocol):
    """softmax(q k') v within each sequence; the encoder's queries come divided by sqrt(width)."""

    @property
    def name(self) -> str:
        """For people: what runs."""
        ...

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: PackedBounds, *, first: bool = False
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: [total, heads, width], or [n, heads, width] when only each sequence's first token asks.
            key: [total, heads, width].
            value: [total, heads, width].
            packed: where the sequences of the batch lie.
            first: whether the queries are first tokens alone.

        Returns:
            What each query saw, [rows of query, heads * width].
        """
        ...


@dataclass(frozen=True, slots=True)
class VarlenAttention:
    """One kernel over all sequences (Dao 2023, FlashAttention-2), on CUDA in half precision."""

    name: str
    kernel: Callable[..., Any]

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: PackedBounds, *, first: bool = False
    ) -> torch.Tensor:
        """See `Attention`."""
        starts, longest = (packed.ordinals, 1) if first else (packed.starts, packed.longest)
        seen = self.kernel(query, key, value, starts, packed.starts, longest, packed.longest)
        return torch.flatten(seen, 1)


@dataclass(frozen=True, slots=True)
class BucketedAttention:
    """torch's dense attention over runs of neighbours of like length, which the planner's sorting makes long.

    A run of equal lengths is read in place. Unequal ones are padded to the longest of the run and masked, as long as
    the padding stays within `padding` of the run's true tokens.
    """

    padding: float
    name: str = "dense attention over length buckets"

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: PackedBounds, *, first: bool = False
    ) -> torch.Tensor:
        """See `Attention`."""
        seen = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        for run in packed.runs(self.padding):
            whole = slice(packed.bounds[run.begin], packed.bounds[run.end])
            rows, count = slice(run.begin, run.end) if first else whole, run.end - run.begin
            if run.index is None or run.real is None:
                mask = None
                q = query[rows].view(count, -1, *query.shape[1:])
                k, v = (x[whole].view(count, run.length, *x.shape[1:]) for x in (key, value))
            else:
                mask = run.real[:, None, None]
                q = query[rows, None] if first else query[run.index]
                k, v = key[run.index], value[run.index]
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0).transpose(1, 2).flatten(0, 1)
            seen[rows] = out if run.places is None or first else out[run.places]
        return seen.flatten(1)


@dataclass(frozen=True, slots=True)
class ProductAttention:
    """Sequence by sequence on a CPU, a few heads at a time: two products and a softmax in fp32.

    Nothing is padded, query, key and value are read where they lie, and scores stay in the cache of a core. torch's
    fused attention takes the longer sequences, where it is faster, but not in bf16: there it is slower by far, unless
    the processor has AMX tiles.
    """

    name: str = "products, softmax in fp32"

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: PackedBounds, *, first: bool = False
    ) -> torch.Tensor:
        """See `Attention`."""
        seen = torch.empty(query.shape, dtype=query.dtype)
        out = seen.transpose(0, 1)
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        for i in range(len(packed)):
            whole = slice(packed.bounds[i], packed.bounds[i + 1])
            rows = slice(i, i + 1) if first else whole
            cells = max(1, (rows.stop - rows.start) * (whole.stop - whole.start))
            if cells > _FUSED_ABOVE and query.dtype == torch.float32:
                q, k, v = (x[None] for x in (query[:, rows], key[:, whole], value[:, whole]))
                out[:, rows] = scaled_dot_product_attention(q, k, v, scale=1.0)[0]
                continue
            at_once = max(1, _CACHED_SCORES // cells)
            for start in range(0, len(query), at_once):
                heads = slice(start, start + at_once)
                scores = torch.bmm(query[heads, rows], key[heads, whole].transpose(1, 2))
                weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
                out[heads, rows] = torch.bmm(weights, value[heads, whole])
        return seen.flatten(1)


def runs(bounds: Sequence[int], padding: float) -> list[tuple[int, int]]:
    """Split sequences into runs of neighbours, each padded by at most the share `padding` of its true tokens."""
    found, begin, longest = [], 0, 0
    for i in range(len(bounds) - 1):
        grown = max(longest, bounds[i + 1] - bounds[i])
        true = bounds[i + 1] - bounds[begin]
        if grown * (i + 1 - begin) > true * (1 + padding):
            found.append((begin, i))
            begin, grown = i, bounds[i + 1] - bounds[i]
        longest = grown
    found.append((begin, len(bounds) - 1))
    return found


def choose_attention(device: torch.device, dtype: torch.dtype, width: int = 64) -> Attention:
    """The fastest attention that this device and this torch can run.

    Args:
        device: where it runs.
        dtype: of query, key and value.
        width: of a head.
    """
    if device.type == "cpu":
        return ProductAttention()
    if dtype == torch.float32:
        return BucketedAttention(padding=0.25)
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8 and width % 8 == 0 and width <= _WIDEST_HEAD:
        try:
            from flash_attn import flash_attn_varlen_func
        except ImportError:
            pass
        else:
            return VarlenAttention("flash-attn", partial(flash_attn_varlen_func, softmax_scale=1.0))
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:
            pass
        else:
            if "scale" in signature(varlen_attn).parameters:  # its first releases divide by the root of the width
                return VarlenAttention("torch varlen_attn", partial(varlen_attn, scale=1.0))
    return BucketedAttention(padding=0.25)

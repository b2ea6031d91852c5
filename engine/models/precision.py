"""The precision that `auto` means on a CPU: what a short measurement finds faster, remembered in the cache folder."""

import time
from collections.abc import Callable

import torch

from engine.models.device import cpu
from engine.models.linear import choose_affine
from engine.models.workers import workers
from engine.records import Precision
from engine.remembered import recall, remember

__all__ = ["cpu_precision"]

_REMEMBERED = "cpu-precision.json"
_GAIN = 1.2
"""bf16 must be faster by this much: below, its rounding buys nothing."""
_ROWS, _REPEATS = 256, 40


def cpu_precision(hidden: int, intermediate: int) -> Precision:
    """bf16 where the CPU multiplies it in hardware and is measured to gain by it, fp32 otherwise.

    Args:
        hidden: width of the model.
        intermediate: width of its feed-forward part.
    """
    if not cpu().has_bf16_products:
        return "fp32"
    key = f"{cpu().name}, torch {torch.__version__}, {hidden}x{intermediate}"
    known = recall(_REMEMBERED)
    gain = known.get(key)
    if not isinstance(gain, (int, float)):
        gain = _gain(hidden, intermediate)
        remember(_REMEMBERED, known | {key: gain})
    return "bf16" if gain >= _GAIN else "fp32"


def _gain(hidden: int, intermediate: int) -> float:
    """How many times faster bf16 multiplies than fp32."""
    # On one core of the pool and in its own processor time, the two types in turns. On a busy machine most repeats hit
    # cold caches; the minimum of a few would be luck, and would be remembered.
    return workers(cpu().cores).submit(_measured, hidden, intermediate).result()


def _measured(hidden: int, intermediate: int) -> float:
    """The ratio of the shortest times of the feed-forward part's first product."""
    turns = [_product(dtype, hidden, intermediate) for dtype in (torch.float32, torch.bfloat16)]
    best = [float("inf")] * len(turns)
    with torch.inference_mode():
        for _ in range(_REPEATS):
            for which, (product, x) in enumerate(turns):
                start = time.thread_time()
                product(x)
                best[which] = min(best[which], time.thread_time() - start)
    return round(best[0] / best[1], 2)


def _product(
    dtype: torch.dtype, hidden: int, intermediate: int
) -> tuple[Callable[[torch.Tensor], object], torch.Tensor]:
    weight = torch.ones(intermediate, hidden, dtype=dtype)
    product = choose_affine(torch.device("cpu"), dtype)(weight, weight[:, 0].contiguous(), None)
    return product, torch.ones(_ROWS, hidden, dtype=dtype)

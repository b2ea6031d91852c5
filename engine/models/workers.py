"""A batch shared out to the cores of a CPU, each computing whole sequences alone.

One thread per core with a share of the sequences waits for nobody inside a layer, keeps its activations in its own
cache, and loses little when another process takes a core for a while. Threads that share every product wait for the
slowest of them some thirty times a layer.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.models.batch import PackedBatch

__all__ = ["once_a_process", "share_out", "start", "workers"]

_CHUNK_TOKENS = 1024
"""Enough to read a layer's weights seldom, few enough for activations to stay near the core."""
_CHUNKS_PER_CORE = 4
"""So that the cores finish together."""

Values = NDArray[np.float32]
Pool = Callable[[int], ThreadPoolExecutor]
"""Gives the threads of so many cores."""


def once_a_process(make: Pool) -> Pool:
    """Keep what `make` gives; a forked process has none of those threads, would wait for ever, and makes its own."""
    kept = cache(make)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=kept.cache_clear)
    return kept


@once_a_process
def workers(cores: int) -> ThreadPoolExecutor:
    """One thread per core."""
    return ThreadPoolExecutor(cores, thread_name_prefix="fouille-core")


def start(
    batch: PackedBatch,
    compute: Callable[[PackedBatch], Values],
    cores: int,
    pool: Pool,
    *,
    least: int = 2,
) -> list[Future[Values] | Values]:
    """Whole sequences shared out to the cores; a batch too small to share is computed here, by one call.

    Args:
        batch: at least one sequence.
        compute: gives float32[n, width] for a part of the batch.
        cores: that will compute.
        pool: gives their threads; not called for a batch too small to share.
        least: parts that are worth sharing out.

    Returns:
        float32[n, width] of each part in order, done or being computed.
    """
    parts = share_out(batch.starts.tolist(), cores)
    if cores == 1 or len(parts) < least:
        return [compute(batch)]
    threads = pool(cores)
    return [threads.submit(compute, batch.part(begin, end)) for begin, end in parts]


def share_out(bounds: Sequence[int], cores: int) -> list[tuple[int, int]]:
    """Split sequences into runs of neighbours, of about the same number of tokens each.

    Args:
        bounds: n + 1 offsets of n sequences.
        cores: that will compute them.

    Returns:
        Pairs of first sequence and the one past the last; together, all sequences in order.
    """
    count = len(bounds) - 1
    size = min(_CHUNK_TOKENS, -(-bounds[-1] // (cores * _CHUNKS_PER_CORE)))
    found, begin = [], 0
    for end in range(1, count + 1):
        if end == count or bounds[end + 1] - bounds[begin] > size:
            found.append((begin, end))
            begin = end
    return found

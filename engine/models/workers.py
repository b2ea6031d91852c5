"""A batch shared out to the cores of a CPU, each computing whole sequences alone.

One thread per core with a share of the sequences waits for nobody inside a layer, keeps its activations in its own
cache, and loses little when another process takes a core for a while. Threads that share every product wait for the
slowest of them some thirty times a layer.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch

__all__ = ["share_out", "workers"]

_CHUNK_TOKENS = 1024
"""Enough to read a layer's weights seldom, few enough for activations to stay near the core."""
_CHUNKS_PER_CORE = 4
"""So that the cores finish together."""


@cache
def workers(cores: int) -> ThreadPoolExecutor:
    """One thread per core; torch computes single-threaded in each."""
    ready = Barrier(cores + 1)
    pool = ThreadPoolExecutor(cores, thread_name_prefix="fouille-core")

    def alone() -> None:
        # torch initialises a thread's count on its first query, which would overwrite a value set before.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    for _ in range(cores):
        pool.submit(alone)
    ready.wait()
    # torch keeps the count per thread, and one more for threads to come: leave that one as it was.
    torch.set_num_threads(before)
    return pool


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

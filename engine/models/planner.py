"""Batches of a token budget: planned over all sequences at once, packed ahead of the runtime, results in order."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import DeviceError
from engine.models.batch import PackedBatch
from engine.overlap import ahead

__all__ = ["BatchRuntime", "plan", "run"]

Rows = NDArray[np.intp]


class BatchRuntime(Protocol):
    """What the planner needs of a runtime."""

    @property
    def device(self) -> str:
        """Where it runs."""

    most_tokens: int | None
    """A budget that its memory was seen to need, None as long as it never ran out."""

    @property
    def in_flight(self) -> int:
        """Batches to have under way at a time: one that each device computes, and one whose copy is under way."""

    def submit(self, batch: PackedBatch) -> Any:
        """Start on a batch."""

    def collect(self, handle: Any) -> NDArray[np.float32]:
        """Wait for a batch and take its result, float32[n, width]."""

    def drop(self, handle: Any) -> None:
        """Give up a batch that was started."""

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device's memory is full."""


def plan(lengths: NDArray[np.int64], budget: int, rows: Rows | None = None) -> list[Rows]:
    """Batches of rows, longest first, each of at most `budget` tokens or of one row.

    Longest first means that memory runs out in the first batch or in none.

    Args:
        lengths: int64[n], tokens of each sequence.
        budget: tokens of a batch.
        rows: the rows to plan, all when None.

    Returns:
        Arrays of rows; every row stands in one of them.
    """
    rows = np.arange(len(lengths)) if rows is None else rows
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    ends = np.cumsum(lengths[rows])
    batches: list[Rows] = []
    start, before = 0, 0
    while start < len(rows):
        stop = max(int(np.searchsorted(ends, before + budget, side="right")), start + 1)
        batches.append(rows[start:stop])
        start, before = stop, int(ends[stop - 1])
    return batches


def run(
    runtime: BatchRuntime,
    lengths: NDArray[np.int64],
    pack: Callable[[Rows], PackedBatch],
    budget: int,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Run every sequence through a runtime.

    Memory that runs out halves the budget, for good, and the work goes on; Ctrl-C stops between batches.

    Args:
        runtime: computes packed batches.
        lengths: int64[n], tokens of each sequence.
        pack: assembles the sequences of some rows.
        budget: tokens of a batch.
        progress: called with the number of sequences done since the last call.

    Returns:
        float32[n, width], row i for sequence i; float32[0, 0] when there are none.

    Raises:
        DeviceError: the memory does not hold a single sequence.
    """
    results: NDArray[np.float32] | None = None
    todo = plan(lengths, min(budget, runtime.most_tokens or budget))
    while todo:
        failed: list[Rows] = []
        for rows, values in _run_planned(runtime, todo, pack, failed):
            if results is None:
                results = np.empty((len(lengths), values.shape[1]), np.float32)
            results[rows] = values
            if progress is not None:
                progress(len(rows))
        if not failed:
            break
        runtime.most_tokens = max(int(lengths[failed[0]].sum()) // 2, 1)
        todo = plan(lengths, runtime.most_tokens, np.concatenate(failed))
    return np.empty((0, 0), np.float32) if results is None else results


def _run_planned(
    runtime: BatchRuntime, batches: list[Rows], pack: Callable[[Rows], PackedBatch], failed: list[Rows]
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Results batch by batch; once memory runs out, `failed` takes what is left, the batch that failed first."""
    under_way: deque[tuple[Rows, Any]] = deque()
    started = 0
    try:
        for rows, batch in ahead(batches, pack):
            started += 1
            try:
                under_way.append((rows, runtime.submit(batch)))
            except Exception as error:
                if not runtime.out_of_memory(error):
                    raise
                _note(runtime, error, rows, failed)
            if len(under_way) >= runtime.in_flight:
                yield from _collect(runtime, under_way, failed)
            if failed:
                break
        while under_way:
            yield from _collect(runtime, under_way, failed)
    finally:
        for _, handle in under_way:
            runtime.drop(handle)
    if failed:
        failed += batches[started:]


def _collect(
    runtime: BatchRuntime, under_way: deque[tuple[Rows, Any]], failed: list[Rows]
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """The result of the oldest batch under way, nothing when it did not fit."""
    rows, handle = under_way.popleft()
    try:
        values = runtime.collect(handle)
    except Exception as error:
        if not runtime.out_of_memory(error):
            raise
        _note(runtime, error, rows, failed)
    else:
        yield rows, values


def _note(runtime: BatchRuntime, error: Exception, rows: Rows, failed: list[Rows]) -> None:
    """Put a batch that did not fit among the failed, unless nothing smaller can be tried."""
    if len(rows) == 1:
        raise DeviceError(
            "too little memory for a single sequence", where=runtime.device, hint="lower --max-length, or --device cpu"
        ) from error
    failed.append(rows)

"""Progress of long work on stderr: a bar for each part with its rate and the time left, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["Progress", "progress"]

Progress = Callable[[str, int, int | None], None]
"""Called by the engine with a part's name, how much of it is done, and how much there is (None: not known yet)."""

_SLOW = 10
_UNITS = {"reading": "documents", "bm25": "passages", "encoding": "passages", "tokens": "passages"}


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A function to report progress to, or None where no terminal shows it. The bars stay when the work is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )
    tasks: dict[str, TaskID] = {}

    def report(part: str, done: int, total: int | None) -> None:
        if part not in tasks:
            tasks[part] = bars.add_task(part, total=total, count="", rate="", left="")
        task = bars.tasks[bars.task_ids.index(tasks[part])]
        speed = task.finished_speed or task.speed
        bars.update(
            tasks[part],
            completed=done,
            total=total,
            count=_count(part, done, total),
            rate=_rate(speed),
            left="" if total is None or done >= total else "left",
        )

    with bars:
        yield report
        for task in tasks.values():
            # A part whose total stayed unknown is done when the work is.
            state = bars.tasks[bars.task_ids.index(task)]
            if state.total is None:
                bars.update(task, total=state.completed)


def _count(part: str, done: int, total: int | None) -> str:
    unit = _UNITS.get(part, "")
    return f"{done:,} {unit}".rstrip() if total is None else f"{done:,} of {total:,} {unit}".rstrip()


def _rate(speed: float | None) -> str:
    """Items a second; with a decimal where the first digit says too little, as of reranked questions on a processor."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed < _SLOW else f"{speed:,.0f}/s"

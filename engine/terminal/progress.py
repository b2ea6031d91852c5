"""Progress of long work on stderr: a bar for each part with its rate and the time left, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.records import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["new_bars", "progress"]

_SLOW = 10
_UNITS = {"reading": "documents", "bm25": "passages", "encoding": "passages", "tokens": "passages"}


def new_bars(*fields: str, after: tuple[str, ...] = ()) -> "Bars":
    """Bars on stderr: a part's name, its bar, these fields of the task, the time taken and left, then those after."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in fields),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in after),
        console=Console(stderr=True),
    )


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A function to report progress to, or None where no terminal shows it. The bars stay when the work is done."""
    if not sys.stderr.isatty():
        yield None
        return
    bars = new_bars("count", "rate", after=("left",))
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

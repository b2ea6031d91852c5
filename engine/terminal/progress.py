"""Progress of long work on stderr: a bar for each part with its rate and the time left, on a terminal only."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.records import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID

__all__ = ["LOADING", "new_bars", "progress"]

LOADING = "loading the model"
_SLOW = 10
_UNITS = {"reading": "documents", "bm25": "passages", "encoding": "passages", "tokens": "passages"}


def new_bars(*fields: str) -> "Bars":
    """Bars on stderr: a part's name, its bar, these fields of the task, the time taken, and left while it is known."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: "Task") -> Text:
            if task.finished or task.time_remaining is None:
                return Text("")
            return super().render(task).append(" left")

    return Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in fields),
        TimeElapsedColumn(),
        TimeLeft(compact=True),
        console=Console(stderr=True),
    )


@contextmanager
def progress(then: Mapping[str, str] | None = None) -> Iterator[Progress | None]:
    """A function to report progress to, or None where no terminal shows it. The bars stay when the work is done.

    Args:
        then: parts that begin with a wait before they report, by name what is waited for, in order: whenever all that
            was reported is done, the next of them moves.
    """
    if not sys.stderr.isatty():
        yield None
        return
    parts = _Parts(new_bars("count", "rate"), dict(then or {}))
    with parts.bars:
        yield parts.report
        parts.end()


@dataclass(slots=True)
class _Parts:
    """The parts of a work as bars.

    Attributes:
        then: as `progress` has it.
        shown: the parts that have reported, in order.
        waiting: the one that moves while nothing is reported.
    """

    bars: "Bars"
    then: Mapping[str, str]
    shown: "dict[str, TaskID]" = field(default_factory=dict)
    waiting: "tuple[str, TaskID] | None" = None

    def report(self, part: str, done: int, total: int | None) -> None:
        if part not in self.shown:
            self._begin(part)
        speed = self._task(part).finished_speed or self._task(part).speed
        count = "" if done or total == 0 else self.then.get(part, "")
        self.bars.update(
            self.shown[part],
            completed=done,
            total=total,
            count=count or _count(part, done, total),
            rate=_rate(speed),
        )
        self._wait()

    def end(self) -> None:
        self._wait_no_more()
        self._complete(lambda task: task.total is None)

    def _task(self, part: str) -> "Task":
        return self.bars.tasks[self.bars.task_ids.index(self.shown[part])]

    def _begin(self, part: str) -> None:
        if part in self.then:
            # Fewer came than were expected: what was read before is all there was.
            self._complete(lambda task: not task.finished)
        if self.waiting and self.waiting[0] == part:
            self.shown[part], self.waiting = self.waiting[1], None
        else:
            self.shown[part] = self.bars.add_task(part, total=None, count=self.then.get(part, ""), rate="")

    def _complete(self, chosen: "Callable[[Task], bool]") -> None:
        for part, name in self.shown.items():
            task = self._task(part)
            if chosen(task):
                self.bars.update(name, total=task.completed, count=_count(part, int(task.completed), None))

    def _wait(self) -> None:
        """Let the part that comes next move where nothing else does."""
        coming = next((part for part in self.then if part not in self.shown), None)
        idle = all(self._task(part).finished for part in self.shown)
        if self.waiting and not idle:
            self._wait_no_more()
        elif idle and coming and self.waiting is None:
            self.waiting = coming, self.bars.add_task(coming, total=None, count=self.then[coming], rate="")

    def _wait_no_more(self) -> None:
        if self.waiting:
            self.bars.remove_task(self.waiting[1])
            self.waiting = None


def _count(part: str, done: int, total: int | None) -> str:
    unit = _UNITS.get(part, "")
    return f"{done:,} {unit}".rstrip() if total is None else f"{done:,} of {total:,} {unit}".rstrip()


def _rate(speed: float | None) -> str:
    """Items a second; with a decimal where the first digit says too little, as of reranked questions on a processor."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed < _SLOW else f"{speed:,.0f}/s"

"""A training as it goes: one bar with loss, steps a second and the time left; figures a line each."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from engine.records import Progress
from engine.terminal.output import complain
from engine.terminal.progress import new_bars, progress

__all__ = ["Shown", "shown_training"]

Log = Callable[[Mapping[str, float]], None]


class Shown(NamedTuple):
    """What the engine reports to; None where nothing is shown."""

    progress: Progress | None
    log: Log | None


@contextmanager
def shown_training(*, silent: bool = False) -> Iterator[Shown]:
    """Shows a training on stderr: a bar on a terminal, and the figures on dev questions as lines anywhere.

    Args:
        silent: show nothing, as in all processes of a distributed training but the first.
    """
    if silent:
        yield Shown(None, None)
        return
    if not sys.stderr.isatty():
        with progress() as plain:
            yield Shown(plain, _figures)
        return
    bars = new_bars("count", "loss", "rate")
    tasks = {}

    def report(part: str, done: int, total: int | None) -> None:
        if part not in tasks:
            tasks[part] = bars.add_task(part, total=total, count="", loss="", rate="")
        speed = bars.tasks[bars.task_ids.index(tasks[part])].speed
        count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        bars.update(tasks[part], completed=done, total=total, count=count, rate=f"{speed:.2f}/s" if speed else "")

    def log(entry: Mapping[str, float]) -> None:
        if "loss" in entry and "training" in tasks:
            bars.update(tasks["training"], loss=f"loss {entry['loss']:.3f}")
        _figures(entry)

    with bars:
        yield Shown(report, log)


def _figures(entry: Mapping[str, float]) -> None:
    figures = [f"{name[5:]} {100 * value:.1f}" for name, value in entry.items() if "@" in name]
    if figures:
        complain(f"step {entry['step']:,}: {', '.join(figures)} on dev questions")

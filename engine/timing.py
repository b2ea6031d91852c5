"""Where the time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Pace", "timed"]

_SECONDS = 5.0


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds spent inside to one part, whatever ends it."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started


class Pace:
    """How many things to do together, so that progress shows and an interruption costs little, whatever the device.

    Args:
        first: how many at first.
        fewest: how many at least, afterwards.
        most: how many at most.

    Attributes:
        size: how many next; what takes a few seconds by the speed of the last.
    """

    def __init__(self, first: int, fewest: int, most: int) -> None:
        self.size = first
        self._fewest, self._most = fewest, most
        self._started = time.monotonic()

    def begin(self) -> None:
        """Some are about to be done."""
        self._started = time.monotonic()

    def done(self, count: int) -> None:
        """So many have been done since `begin`."""
        speed = count / max(time.monotonic() - self._started, 1e-3)
        self.size = int(min(max(speed * _SECONDS, self._fewest), self._most))

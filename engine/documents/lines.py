"""Lines of a stream, none of which can fill the memory."""

from collections.abc import Iterator
from typing import BinaryIO

from engine.documents.extraction import MOST_LINE

__all__ = ["TOO_LONG", "lines"]

TOO_LONG = f"line longer than {MOST_LINE // 1024**2} MB"


def lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers from 1; None for one of more than `MOST_LINE` bytes, which is read past."""
    number = 0
    while line := stream.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MOST_LINE)
            yield number, None
        else:
            yield number, line

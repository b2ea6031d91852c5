"""Colour, links and width: what the stream at hand can show."""

import os
import re
from dataclasses import dataclass
from typing import IO

__all__ = ["PLAIN", "Style", "cell_width"]

# Letters of the Latin alphabet and the punctuation of French take one cell each; anything else is looked up.
_NARROW = re.compile("[ -\u02ff\u1e00-\u1eff\u2010-\u2027\u2030-\u205e\u20a0-\u20c0]*")

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
    "match": "1;33",
}


def cell_width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if _NARROW.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


@dataclass(frozen=True, slots=True)
class Style:
    """How to write on one stream.

    Attributes:
        colour: whether colours and weights may be used.
        links: whether OSC 8 links may be used.
        width: columns to wrap to.
    """

    colour: bool = False
    links: bool = False
    width: int = 100

    @classmethod
    def of(cls, stream: IO[str]) -> "Style":
        """What `stream` can show: nothing but text when it is no terminal, no colour under `NO_COLOR`."""
        width = max(20, _columns(stream) or cls().width)
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        return cls(colour=terminal and not os.environ.get("NO_COLOR"), links=terminal, width=width)

    def paint(self, text: str, look: str) -> str:
        """`text` in a look: a colour, `bold`, `dim` or `match`."""
        return f"\x1b[{_CODES[look]}m{text}\x1b[0m" if self.colour and text else text

    def link(self, text: str, address: str) -> str:
        """`text` as a link to `address`, an absolute URI; an address that is not printable ASCII is not linked to."""
        if not self.links or not re.fullmatch("(?:https?|file)://[!-~]+", address):
            return text
        return f"\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"


def _columns(stream: IO[str]) -> int:
    """What `COLUMNS` says, else the width of the terminal that the stream is, 0 where it is none."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal, or nothing that the system knows of
        return 0


PLAIN = Style()

"""How the blocks of a marked-up document become lines of text."""

import re

from engine.documents.text import normalise

__all__ = ["Layout"]

_SPACES = re.compile(r"[^\S\u00a0\u202f]+")
# The look-behind keeps a long run of spaces linear: only its first one starts a match.
_LINE_SPACES = re.compile(r"(?<![^\S\n])[^\S\n]++\n")
_EMPTY_LINES = re.compile(r"\n{3,}")


class Layout:
    """Collects text; spaces, lines and paragraphs are asked for, and appear once, between pieces of text.

    A line break separates lines and list items, an empty line paragraphs, ` | ` the cells of a table.
    """

    def __init__(self) -> None:
        self.preformatted = 0
        self._parts: list[str] = []
        self._wanted = ""  # what stands before the next text: "", " ", " | ", "\n", "\n\n"
        self._marker = ""
        self._row_begun = False

    def write(self, text: str | None) -> None:
        """Add inline text."""
        if not text:
            return
        if self.preformatted:
            self._add(text.expandtabs(4).strip("\n") if self._at_start() else text.expandtabs(4))
            return
        text = _SPACES.sub(" ", text)
        words = text.strip(" ")
        if text[0] == " " and not self._wanted:
            self._wanted = " "
        if words:
            self._add(words)
            if text[-1] == " ":
                self._wanted = " "

    def apart(self) -> None:
        """What follows is no part of the word before it."""
        if not self._wanted and self._parts and self._parts[-1][-1:].isalnum():
            self._wanted = " "

    def line(self) -> None:
        """What follows starts on a new line."""
        if self._wanted != "\n\n":
            self._wanted = "\n"
        self._row_begun = False

    def paragraph(self) -> None:
        """What follows starts after an empty line."""
        self._wanted = "\n\n"
        self._row_begun = False

    def item(self, depth: int, marker: str) -> None:
        """What follows is an item of a list at this depth."""
        self.line()
        self._marker = "  " * min(depth - 1, 8) + marker

    def end_item(self) -> None:
        """The item is over; where nothing of it was text, nothing of it stays."""
        self.line()
        self._marker = ""

    def cell(self, *, in_data: bool) -> None:
        """What follows is the next cell of the row; in a table that only arranges the page, a line."""
        if not in_data:
            self.line()
        elif self._row_begun:
            self._wanted = " | "

    def text(self) -> str:
        """All of it, normalised."""
        text = _LINE_SPACES.sub("\n", "".join(self._parts))
        return normalise(_EMPTY_LINES.sub("\n\n", text)).strip()

    def _at_start(self) -> bool:
        return self._wanted.startswith("\n")

    def _add(self, text: str) -> None:
        if self._parts:
            self._parts.append(self._wanted)
        if self._marker:
            self._parts.append(self._marker)
            self._marker = ""
        self._parts.append(text)
        self._wanted = ""
        self._row_begun = True

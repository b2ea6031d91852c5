"""Markdown, nearly raw, so that its lines stay where they are."""

import re

from engine.documents.encoding import decode
from engine.documents.extraction import MOST_TITLE, Extraction
from engine.documents.text import normalise

__all__ = ["read"]

_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(.*?\n)(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)", re.DOTALL)
_SCALAR = re.compile(r"([\w-]+):\s+([^\s\[{&*|>!#].*)")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,2}[^\S\n]+(\S[^\n]*)$|^(\S[^\n]*)\n(?:=+|-+)[^\S\n]*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_MARKUP = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")


def read(content: bytes) -> Extraction:
    """Read Markdown. Front matter becomes metadata and, in the text, as many empty lines."""
    text, guessed = decode(content)
    text = normalise(text)
    metadata = {"encoding": guessed} if guessed else {}
    title = ""
    if front := _FRONT_MATTER.match(text):
        lines = map(_SCALAR.match, front.group(1).split("\n"))
        scalars = {line.group(1): _unquoted(line.group(2).rstrip()) for line in lines if line}
        title = scalars.pop("title", "")
        metadata = scalars | metadata
        text = "\n" * front.group().count("\n") + text[front.end() :]
    return Extraction(text, title or _first_heading(text), dict(metadata), has_lines=True)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _first_heading(text: str) -> str:
    """The first heading of level one or two before any code, without its markup."""
    fence = _FENCE.search(text)
    heading = _HEADING.search(text, 0, fence.start() if fence else len(text))
    if heading is None:
        return ""
    line = (heading.group(1) or heading.group(2))[:MOST_TITLE].rstrip("# \t")
    return _MARKUP.sub("", _LINK.sub(r"\1", line))

"""Markdown, nearly raw, so that its lines stay where they are."""

import re
from collections.abc import Sequence
from typing import Any

from engine.documents.encoding import decode
from engine.documents.extraction import MOST_TITLE, Extraction
from engine.documents.text import normalise

__all__ = ["read"]

_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(.*?\n)(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)", re.DOTALL)
# What YAML's simple half is made of: a name, what belongs to the name above it, an item of a list, a comment.
_YAML_LINE = re.compile(r"[\w-][\w .-]*:(?:\s|\Z)|\s|- |-\Z|#|\Z")
_SCALAR = re.compile(r"([\w-]+):\s+([^\s\[{&*|>!#].*)")
_FLOW_LIST = re.compile(r"([\w-]+):\s+\[([^\[\]{}]*)\]\s*")
_BLOCK_LIST = re.compile(r"([\w-]+):\s*")
_ITEM = re.compile(r"\s*-\s+([^\s\[{&*|>!#].*)")
_QUOTED = re.compile(r"""(['"])(.*)\1(?:\s++#.*)?""")
_COMMENT = re.compile(r"(?<!\s)\s++#.*")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)
_HEADING = re.compile(
    r"""
    ^\ {0,3}\#{1,2}[^\S\n]+(\S[^\n]*)$ |
    ^\ {0,3}<h[12]\b[^>\n]*>([^<\n]+)</h |
    ^(?![-*+>|]\s)(\S[^\n]*)\n(?:=+|-+)[^\S\n]*$
    """,
    re.MULTILINE | re.VERBOSE,
)
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_MARKUP = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|\s*+\{[#.][^{}]*\}$")


def read(content: bytes) -> Extraction:
    """Read Markdown. Front matter becomes metadata and, in the text, as many empty lines."""
    text, guessed = decode(content)
    text = normalise(text)
    metadata: dict[str, Any] = {}
    title = ""
    if (front := _FRONT_MATTER.match(text)) and _is_front_matter(lines := front.group(1).split("\n")):
        metadata = _metadata(lines)
        title = metadata.pop("title", "") if isinstance(metadata.get("title"), str) else ""
        text = "\n" * front.group().count("\n") + text[front.end() :]
    if guessed:
        metadata["encoding"] = guessed
    return Extraction(text, title or _first_heading(text), metadata, has_lines=True)


def _is_front_matter(lines: Sequence[str]) -> bool:
    """Whether lines between two rules are metadata: text between two rules is text."""
    return bool(lines[0].strip()) and all(map(_YAML_LINE.match, lines))


def _metadata(lines: Sequence[str]) -> dict[str, Any]:
    """What front matter says, as far as it is text, or a list of texts, under a name that stands at the margin."""
    found: dict[str, Any] = {}
    items: list[str] | None = None  # of the list that is open
    for line in lines:
        if items is not None and (item := _ITEM.fullmatch(line)):
            items.append(_unquoted(item.group(1).rstrip()))
            continue
        items = None
        if scalar := _SCALAR.match(line):
            found[scalar.group(1)] = _unquoted(scalar.group(2).rstrip())
        elif flow := _FLOW_LIST.fullmatch(line):
            found[flow.group(1)] = [_unquoted(one.strip()) for one in flow.group(2).split(",") if one.strip()]
        elif block := _BLOCK_LIST.fullmatch(line):
            items = found[block.group(1)] = []
    return {name: value for name, value in found.items() if value != []}


def _unquoted(value: str) -> str:
    """A YAML scalar's text: a quote inside single quotes is doubled, one inside double quotes escaped."""
    if quoted := _QUOTED.fullmatch(value):
        quote, inside = quoted.groups()
        return str(inside.replace("''" if quote == "'" else '\\"', quote))
    return _COMMENT.sub("", value)


def _first_heading(text: str) -> str:
    """The first heading of level one or two before any code, without its markup."""
    fence = _FENCE.search(text)
    heading = _HEADING.search(text, 0, fence.start() if fence else len(text))
    if heading is None:
        return ""
    line = next(filter(None, heading.groups()))[:MOST_TITLE].rstrip("# \t")
    return _MARKUP.sub("", _LINK.sub(r"\1", line))

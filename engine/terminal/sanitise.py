"""Text from documents made harmless before it reaches a terminal.

A document may hold escape sequences that recolour the screen, write the clipboard (OSC 52) or disguise a link (OSC 8),
and bidirectional overrides that show text in another order than it has (Boucher and Anderson 2021, "Trojan Source").
"""

import re
from collections.abc import Iterable, Sequence

from engine.records import Span

__all__ = ["escape_json", "is_harmless", "sanitise", "sanitise_line", "sanitise_spans"]

# Line endings, and what some editors use as one.
_BREAK = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
# Whole sequences first (ECMA-48): strings such as OSC and DCS up to their terminator on the same line, CSI, the rest.
_SEQUENCE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b[0-Z\\^_`a-~]"
)
# What is left of them: C0 but the line feed, DEL, C1; direction marks, embeddings, overrides and isolates; deprecated
# format characters; the byte order mark. Joiners stay: Arabic, Indic scripts and emoji need them.
_HARMFUL = "\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufeff"
_CHARACTER = re.compile(f"[{_HARMFUL}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile(f"[{_HARMFUL}\n\u2028\u2029\ud800-\udfff]")
_JSON_UNSAFE = re.compile(f"[\x7f-\x9f\u2028\u2029{_HARMFUL[_HARMFUL.index(chr(0x61C)) :]}\ud800-\udfff]")


def is_harmless(text: str) -> bool:
    """Whether `text` is one line that a terminal shows as it is."""
    return _UNPRINTABLE.search(text) is None


def sanitise(text: str) -> str:
    """`text` without escape sequences, control and direction characters; of those only line feeds are left.

    Tabs become four spaces, lone surrogates U+FFFD. Applying it twice changes nothing more.
    """
    if is_harmless(text):
        return text
    text = _BREAK.sub("\n", text)
    text = _SEQUENCE.sub("", text).replace("\t", "    ")
    return _SURROGATE.sub("\ufffd", _CHARACTER.sub("", text))


def sanitise_line(text: str) -> str:
    """`text` made harmless and brought onto one line, for titles, keys and messages."""
    return text if is_harmless(text) else " ".join(sanitise(text).split())


def _segments(text: str, spans: Iterable[Span]) -> Iterable[tuple[str, bool]]:
    """The stretches of `text` outside and inside `spans`, in order; what lies outside the text is left out."""
    at = 0
    for start, end in sorted(spans):
        start, end = max(start, at), min(end, len(text))
        if start < end:
            yield text[at:start], False
            yield text[start:end], True
            at = end
    yield text[at:], False


def sanitise_spans(text: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """`text` made harmless, and `spans` moved to where their text now stands."""
    if is_harmless(text.replace("\n", " ")):
        parts = [*_segments(text, spans)]
    else:
        # A sequence that a span cuts in two loses its escape character, so its remains are only odd to look at.
        parts = [(sanitise(part), lit) for part, lit in _segments(text, spans)]
    moved: list[Span] = []
    length = 0
    for part, lit in parts:
        if lit and part:
            moved.append((length, length + len(part)))
        length += len(part)
    return "".join(part for part, _ in parts), moved


def escape_json(text: str) -> str:
    r"""JSON text with what a terminal might act on written as `\uXXXX`; read back, the value is the same."""
    return _JSON_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

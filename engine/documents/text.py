"""What every reader does to text: the checks, one normal form, a title from a file's name."""

import re
import unicodedata
from pathlib import PurePosixPath

__all__ = ["check_text", "in_one_line", "normalise", "readable_name"]

# Seen by nobody, and enough to hide a word from a search: soft hyphen, zero-width space, word joiner, byte order mark.
# The zero-width joiner and non-joiner stay, emoji and Persian are written with them.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]+")
_RETURN = re.compile("\r\n?")
# Canonical reordering takes quadratic time in a run of combining marks; no language stacks this many.
_MARKS = "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
_MARKS_PILED_UP = re.compile(f"[{_MARKS}]{{256}}")
# Controls that nobody means: bytes of Windows' cp1252 that passed for latin-1, where ’ and œ stand.
_MISTAKEN = re.compile("[\u0080-\u009f]")
# Any of them; of most texts this one pass finds that there is nothing to do.
_UNUSUAL = re.compile(f"[\u0080-\u009f\u00ad\u200b\u2060\ufeff{_MARKS}]")


def check_text(text: str) -> str | None:
    """Why `text` cannot be indexed, or None when it can."""
    if "\0" in text:
        return "holds a NUL byte"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds a lone surrogate, U+{ord(text[error.start]):04X}"
    return None


def normalise(text: str) -> str:
    r"""NFC, `\n` for every line end, no invisible characters; keeps each line where it is."""
    if "\r" in text:
        text = _RETURN.sub("\n", text)
    if text.isascii():
        return text
    if _UNUSUAL.search(text):
        text = _INVISIBLE.sub("", _MISTAKEN.sub(_as_cp1252, text))
        if _MARKS_PILED_UP.search(text):
            return text
    return unicodedata.normalize("NFC", text)


def _as_cp1252(control: re.Match[str]) -> str:
    return control.group().encode("latin-1").decode("cp1252", "ignore")


def in_one_line(text: str) -> str:
    """A title: no line ends, single spaces."""
    return " ".join(normalise(text).split())


def readable_name(name: str) -> str:
    """A title from a file's name: its stem, with spaces for underscores and for the hyphens of a slug."""
    stem = PurePosixPath(name.removesuffix(".gz")).stem or name
    words = stem.replace("_", " ")
    if " " not in words and words.count("-") > 1:
        words = words.replace("-", " ")
    return in_one_line(words)

"""From bytes to text: what the file declares, UTF-8, and a guess that is named as one."""

import codecs
import re
import string
from typing import NamedTuple

from engine.documents.extraction import Unreadable

__all__ = ["Decoded", "decode", "guess", "marked_encoding"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What French text holds beyond ASCII, the likelier the higher, as bytes of the encodings it was written in. A general
# detector knows too many encodings to tell these apart in a short text.
_FRENCH = {
    3: "àâäçéèêëîïôöùûüÿœæ«»’\u00a0",
    2: "ÀÂÄÇÉÈÊËÎÏÔÖÙÛÜŸŒÆ",
    1: "‘“”–—…°§€£·²³ñáíóúßµ±×÷•™®©ºª¿¡½¼¾\u00ad",
}
_WRITTEN_IN = {"cp1252": 1.5, "mac_roman": 1.0, "cp850": 1.0}  # how much likelier
_FRENCH_BYTES = {
    name: {byte: much * weight for weight, text in _FRENCH.items() for byte in text.encode(name, "ignore")}
    for name, much in _WRITTEN_IN.items()
}
_FRENCH_BYTES["cp1252"][0xA4] = 1  # the euro of latin-9, which shares the rest
_ENOUGH_FRENCH = 0.9
_LATIN9 = re.compile(rb"[A-Za-z][\xbd\xbc][A-Za-z]|[\xbd\xbc][a-z]{2}|\xa4")
"""What cp1252 would read as a fraction in a word, or as a general sign of currency: a ligature, a price in euros."""
_TOO_FEW = 20
"""Bytes beyond ASCII below which a general detector guesses at random, among the encodings of Asia too."""
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\v\x1b\x08")
_SAMPLE = 64 * 1024
_ASCII = string.printable + "+AGE-"  # in UTF-7 a letter


class Decoded(NamedTuple):
    """Text, and the encoding when it was guessed."""

    text: str
    guessed: str | None = None


def marked_encoding(content: bytes) -> str | None:
    """The encoding that a byte order mark announces."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def decode(content: bytes, declared: str | None = None) -> Decoded:
    """Decode a file: byte order mark, then UTF-8, then what the file declares, then a guess.

    UTF-8 comes before a declaration because other encodings hardly ever pass for it, while files are often converted
    without their declaration.

    Raises:
        Unreadable: these bytes are no text, or in no encoding that is known.
    """
    marked = marked_encoding(content)
    if marked is not None:
        try:
            return Decoded(content.decode(marked).removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            raise Unreadable(f"its byte order mark says {marked}, its bytes do not") from error
    try:
        return Decoded(content.decode())
    except UnicodeDecodeError as error:
        failed_at = error.start
    if declared is not None and (codec := _codec(declared)) is not None:
        try:
            return Decoded(content.decode(codec))
        except UnicodeDecodeError:
            pass
    name = guess(content, failed_at)
    if name == "utf-8":
        text = content.decode(errors="replace")
        damaged = text.count("\ufffd")
        return Decoded(text, f"utf-8 (guessed, {damaged} character{'s'[: damaged != 1]} damaged)")
    return Decoded(content.decode(name, errors="replace"), f"{name} (guessed)")


def _codec(declared: str) -> str | None:
    """What reads text that declares this encoding, None where it cannot be true: the declaration was read as ASCII.

    Latin-1 and ASCII mean cp1252, which has quotes and ligatures where those have controls (WHATWG Encoding Standard).
    """
    try:
        name = codecs.lookup(declared).name
        if "escape" in name or _ASCII.encode().decode(name) != _ASCII:  # UTF-16, or what is no encoding of text
            return None
    except (LookupError, ValueError):
        return None
    return "cp1252" if name in {"iso8859-1", "ascii"} else name


def guess(content: bytes, around: int = 0) -> str:
    """The likely encoding of bytes that are no valid UTF-8, judged by a sample around the offset that failed.

    Raises:
        Unreadable: these bytes look like no text at all.
    """
    sample = content[max(0, around - _SAMPLE // 2) : around + _SAMPLE]
    if sum(byte in _CONTROLS for byte in sample) > len(sample) // 200:
        raise Unreadable("binary, not text")
    damaged = sample.decode(errors="replace").count("\ufffd")
    accented = sum(byte > 127 for byte in sample)
    if damaged * 20 < accented:
        return "utf-8"
    likely = max(_FRENCH_BYTES, key=lambda name: sum(_FRENCH_BYTES[name].get(byte, 0) for byte in sample))
    if sum(byte in _FRENCH_BYTES[likely] for byte in sample) >= _ENOUGH_FRENCH * accented:
        return _latin(sample) if likely == "cp1252" else likely
    if accented < _TOO_FEW:
        return _latin(sample)
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return "cp1252" if best is None else best.encoding


def _latin(sample: bytes) -> str:
    """Which of the two Western encodings that share most letters."""
    return "iso8859-15" if _LATIN9.search(sample) else "cp1252"

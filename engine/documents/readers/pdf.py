"""PDF: the text layer page by page, without running heads and with words put together that were hyphenated."""

import ctypes
import re
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

from engine.documents.extraction import Extraction, Unreadable
from engine.documents.text import normalise

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

__all__ = ["read"]

MOST_PAGES = 20_000
MOST_CHARACTERS = 64 * 1024 * 1024
MOST_SECONDS = 300.0

# PDFium's sign for a hyphen at the end of a line, which it takes away together with the line end.
_HYPHENATED = re.compile("(?<![^\\W\\d_])([^\\W\\d_]++)\ufffe([^\\W\\d_]+)")
# What French hangs on with a hyphen that is no hyphenation: est-ce, donne-moi, celui-là, a-t-il.
_ENCLITICS_LIST = "ce je tu il elle on nous vous ils elles moi toi lui leur leurs le la les en ci là même mêmes t"
_ENCLITICS = frozenset(_ENCLITICS_LIST.split())
_LEADERS = re.compile(r"(?: ?[.…·_]){5,}")
_NUMBER = re.compile(r"\d+|\b[ivxlcIVXLC]+\b")
# Left in the metadata by the program that wrote the file.
_NO_TITLE = re.compile(
    r"""
    \.(?:docx?|odt|tex|dvi|indd|qxd|pdf|pptx?|rtf)$ | ^(?:microsoft\ |untitled|sans\ titre) |
    ^(?:document|mise\ en\ page|diapositive|slide|présentation\ powerpoint|powerpoint\ presentation)\ ?\d*$
    """,
    re.IGNORECASE | re.VERBOSE,
)
_EDGE_LINES = 2


def read(content: bytes) -> Extraction:
    """Read the text layer of a PDF.

    Raises:
        Unreadable: it is encrypted or broken, has no text layer, or goes beyond a limit.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        encrypted = pypdfium2.raw.FPDF_GetLastError() == pypdfium2.raw.FPDF_ERR_PASSWORD or "assword" in str(error)
        raise Unreadable("encrypted PDF, it asks for a password" if encrypted else "broken PDF") from error
    try:
        pages = _pages(document)
        title = document.get_metadata_value("Title").strip()
    except (pypdfium2.PdfiumError, ctypes.ArgumentError) as error:
        raise Unreadable(f"broken PDF, {str(error).lower()}") from error
    finally:
        document.close()
    if not any(page.strip() for page in pages):
        raise Unreadable("PDF without a text layer, its pages are images: recognise them first (OCR)")
    text, starts = _joined(pages)
    return Extraction(text, "" if _NO_TITLE.search(title) else title, pages=starts)


def _pages(document: "PdfDocument") -> list[str]:
    if len(document) > MOST_PAGES:
        raise Unreadable(f"more than {MOST_PAGES} pages")
    end, characters = monotonic() + MOST_SECONDS, 0
    pages = []
    for number in range(len(document)):
        page = document[number]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
        text_page.close()
        page.close()
        characters += len(text)
        if characters > MOST_CHARACTERS or monotonic() > end:
            raise Unreadable(f"too large a PDF, given up at page {number + 1}")
        pages.append(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""))
    return pages


def _joined(pages: list[str]) -> tuple[str, tuple[int, ...]]:
    """The text of all pages, and where each begins."""
    lines = [[" ".join(line.split()) for line in page.split("\n")] for page in pages]
    lines = _without_running_heads([[line for line in page if line] for page in lines])
    words = _words(" ".join(" ".join(page) for page in lines))
    starts, parts, length = [], [], 0
    for number, page in enumerate(lines):
        text = _HYPHENATED.sub(lambda cut: _mended(cut, words), _paragraphs(page)).replace("\ufffe", "-")
        following = next(filter(None, lines[number + 1 : number + 2]), [""])[0]
        text = normalise(_LEADERS.sub(" …", text)) + ("\n" if following[:1].islower() else "\n\n")
        starts.append(length)
        parts.append(text)
        length += len(text)
    return "".join(parts), tuple(starts)


def _words(text: str) -> set[str]:
    """The words of a text and the pairs that hyphens join: of Île-de-France, Île-de and de-France as well."""
    return {*re.findall(r"[^\W\d_]+", text), *map("".join, re.findall(r"([^\W\d_]++)(?=(-[^\W\d_]++))", text))}


def _mended(cut: re.Match[str], words: set[str]) -> str:
    """A word cut at a hyphen, with it or without: the document may have the word elsewhere on one line."""
    left, right = cut.groups()
    joined, hyphenated = left + right, f"{left}-{right}"
    if joined in words:
        return joined
    is_name = right[0].isupper() and not left.isupper()  # Jean-Marie
    return hyphenated if hyphenated in words or right in _ENCLITICS or left == "à" or is_name else joined


def _without_running_heads(pages: list[list[str]]) -> list[list[str]]:
    """Drop first and last lines that, numbers aside, come back on a fifth of the pages and at least on three."""
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_NUMBER.sub("#", line) for line in page[:_EDGE_LINES] + page[-_EDGE_LINES:]})
    least = max(3, len(pages) / 5)
    running = {line for line, count in seen.items() if count >= least}
    kept = []
    for page in pages:
        first, last = 0, len(page)
        while first < min(_EDGE_LINES, last) and _NUMBER.sub("#", page[first]) in running:
            first += 1
        while last > max(first, len(page) - _EDGE_LINES) and _NUMBER.sub("#", page[last - 1]) in running:
            last -= 1
        kept.append(page[first:last])
    return kept


def _paragraphs(lines: list[str]) -> str:
    """Lines with an empty one after each that ended early before a capital or a number: PDF keeps no paragraphs."""
    if not lines:
        return ""
    width = sorted(map(len, lines))[len(lines) * 9 // 10]
    parts = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        early = len(line) < 0.7 * width and following and not following[0].islower()
        parts += [line, "\n\n" if early else "\n"]
    return "".join(parts[:-1])

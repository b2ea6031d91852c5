"""DOCX: the text of the body and its notes, as Word shows it with all changes accepted."""

import re
from typing import Any

from engine.documents.archives import Archive
from engine.documents.extraction import Extraction
from engine.documents.layout import Layout
from engine.documents.markup import first_text, local_name, parse_xml, walk

__all__ = ["read"]

# Word on the web numbers them: document2.xml.
_MAIN = re.compile(r"word/document\d*\.xml")
_NOTES = re.compile(r"word/(?:foot|end)notes\d*\.xml")
_CORE = "docProps/core.xml"
# Deleted text, the second copy of what a drawing holds, formula code, formatting, and the separators of notes.
_DROPPED = frozenset({"del", "moveFrom", "delText", "instrText", "Fallback", "rPr", "sectPr", "tblPr", "trPr", "tcPr"})
_HEADING_STYLE = re.compile(r"(?:heading|titre|title|berschrift)\s*\d?$", re.IGNORECASE)
_CONTENTS_STYLE = re.compile(r"(?:toc|tm)\s?\d$", re.IGNORECASE)  # lines of a table of contents
_TITLE_STYLES = re.compile(r"(?:title|titre)$", re.IGNORECASE), re.compile(r"(?:heading|titre)\s?1$", re.IGNORECASE)


def read(content: bytes) -> Extraction:
    """Read a Word document."""
    archive = Archive(content, "DOCX")
    names = archive.names()
    body = min(filter(_MAIN.fullmatch, names), default="word/document.xml")
    main = parse_xml(archive.member(body), body)
    layout = Layout()
    _write(main, layout)
    for name in sorted(filter(_NOTES.fullmatch, names), reverse=True):  # footnotes first
        layout.paragraph()
        _write(parse_xml(archive.member(name), name), layout)
    title = first_text(parse_xml(archive.member(_CORE), _CORE), "title") if _CORE in names else ""
    return Extraction(layout.text(), title or _styled_title(main))


def _write(root: Any, layout: Layout) -> None:
    cells = 0
    for element, opens, _ in walk(root, _is_dropped):
        name = local_name(element) if element is not None else ""
        if name == "t" and opens:
            layout.write(element.text)
        elif name in ("tab", "ptab") and opens:
            layout.write(" ")
        elif name in ("br", "cr") and opens:
            layout.write(" ") if cells else layout.line()
        elif name == "noBreakHyphen" and opens:
            layout.write("-")
        elif name == "p":
            _paragraph(element, layout, opens=opens, in_cell=cells > 0)
        elif name == "tc":
            cells += 1 if opens else -1
            if opens:
                layout.cell(in_data=cells == 1)
        elif name == "tr":
            layout.line()
        elif name == "tbl" and not cells:
            layout.paragraph()


def _paragraph(element: Any, layout: Layout, *, opens: bool, in_cell: bool) -> None:
    if in_cell:
        layout.write(" ")
        return
    is_item = opens and element.find("{*}pPr/{*}numPr") is not None and not _HEADING_STYLE.search(_style(element))
    if is_item:
        layout.item(1, "- ")
    elif opens:
        layout.paragraph()
    else:
        layout.line()


def _is_dropped(element: Any) -> bool:
    name = local_name(element)
    if name == "p":
        return _CONTENTS_STYLE.match(_style(element)) is not None
    if name == "r" and (hidden := element.find("{*}rPr/{*}vanish")) is not None:
        return _value(hidden) not in ("0", "false", "off")
    return name in _DROPPED or (
        name in ("footnote", "endnote") and any(key.endswith("}type") for key in element.attrib)
    )


def _style(paragraph: Any) -> str:
    style = paragraph.find("{*}pPr/{*}pStyle")
    return "" if style is None else _value(style)


def _value(element: Any) -> str:
    return next((value for key, value in element.attrib.items() if key.endswith("}val")), "")


def _styled_title(root: Any) -> str:
    """The first paragraph in the style Title, else the first heading of the first level."""
    for style in _TITLE_STYLES:
        for paragraph in root.iter("{*}p"):
            if style.match(_style(paragraph)) and (
                text := "".join(piece.text or "" for piece in paragraph.iter("{*}t"))
            ):
                return text
    return ""

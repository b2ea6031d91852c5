"""ODT: the text of the body, without comments, deletions and tables of contents."""

from typing import Any

from engine.documents.archives import Archive
from engine.documents.extraction import Extraction, Unreadable
from engine.documents.layout import Layout
from engine.documents.markup import first_text, local_name, parse_xml, walk

__all__ = ["read"]

_DROPPED = frozenset(
    {"tracked-changes", "annotation", "annotation-end", "table-of-content", "alphabetical-index", "note-citation"}
    | {"sequence-decls", "forms", "binary-data", "scripts", "automatic-styles", "font-face-decls"}
)
_ALTERNATIVE = "xmlns:svg-compatible:"  # title and description of an image, for who does not see it


def read(content: bytes) -> Extraction:
    """Read an OpenDocument text."""
    archive = Archive(content, "ODT")
    names = archive.names()
    if "META-INF/manifest.xml" in names and b"encryption-data" in archive.member("META-INF/manifest.xml"):
        raise Unreadable("encrypted ODT")
    root = parse_xml(archive.member("content.xml"), "content.xml")
    layout = Layout()
    _write(root, layout)
    title = first_text(parse_xml(archive.member("meta.xml"), "meta.xml"), "title") if "meta.xml" in names else ""
    return Extraction(layout.text(), title or _first_heading(root))


def _first_heading(root: Any) -> str:
    """The first heading that has any text, without its notes."""
    for heading in root.iter("{*}h"):
        layout = Layout()
        for element, opens, text in walk(heading, lambda inner: _is_dropped(inner) or local_name(inner) == "note"):
            if opens:
                _space(local_name(element), layout, in_cell=True)
            layout.write(text)
        if found := layout.text():
            return found
    return ""


def _is_dropped(element: Any) -> bool:
    return local_name(element) in _DROPPED or _ALTERNATIVE in element.tag


def _write(root: Any, layout: Layout) -> None:
    lists = cells = notes = 0
    for element, opens, text in walk(root, _is_dropped):
        name = local_name(element) if element is not None else ""
        if name in ("h", "p"):
            if notes:
                layout.write(" " if opens and element.getprevious() is not None else "")
            elif cells:
                layout.write(" ")
            elif not lists:
                layout.paragraph()
            elif not opens:
                layout.line()
        elif name in ("list", "list-item", "table-cell", "note"):
            step = 1 if opens else -1
            lists += step * (name == "list")
            cells += step * (name == "table-cell")
            notes += step * (name == "note")
            _begin(name, layout, opens=opens, lists=lists, cells=cells)
        elif name == "table-row":
            layout.line()
        elif name == "table" and not cells:
            layout.paragraph()
        elif opens:
            _space(name, layout, in_cell=cells > 0)
        layout.write(text)


def _begin(name: str, layout: Layout, *, opens: bool, lists: int, cells: int) -> None:
    if name == "list-item" and opens and not cells:
        layout.item(lists, "- ")
    elif name == "list" and not cells:
        layout.line() if lists else layout.paragraph()
    elif name == "table-cell" and opens:
        layout.cell(in_data=cells == 1)
    elif name == "note":  # a note interrupts its sentence, and must not cut it in two
        layout.write(" [" if opens else "]")


def _space(name: str, layout: Layout, *, in_cell: bool) -> None:
    if name in ("tab", "s"):
        layout.write(" ")
    elif name == "line-break":
        layout.write(" ") if in_cell else layout.line()

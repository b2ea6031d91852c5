"""EPUB: the chapters of a book in reading order, as one document."""

import posixpath
from typing import Any
from urllib.parse import unquote

from engine.documents.archives import Archive
from engine.documents.encoding import decode
from engine.documents.extraction import Extraction, Unreadable
from engine.documents.markup import first_text, parse_xml
from engine.documents.readers.html import page

__all__ = ["read"]

_CONTAINER = "META-INF/container.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def read(content: bytes) -> Extraction:
    """Read a book; its table of contents is left out."""
    archive = Archive(content, "EPUB")
    rootfile = parse_xml(archive.member(_CONTAINER), _CONTAINER).find(".//{*}rootfile")
    if rootfile is None:
        raise Unreadable("broken EPUB, its container names no package")
    package_name = rootfile.get("full-path", "")
    package = parse_xml(archive.member(package_name), package_name)
    names = archive.names()
    chapters = [name for name in _reading_order(package, posixpath.dirname(package_name)) if name in names]
    try:
        texts = [page(decode(archive.member(name)).text.encode(), is_xml=True, is_book=True)[1] for name in chapters]
    except Unreadable as error:
        if "META-INF/encryption.xml" in names:  # others encrypt their fonts alone
            raise Unreadable("encrypted EPUB") from error
        raise
    if not chapters:
        raise Unreadable("broken EPUB, none of its chapters is there")
    creator, language = first_text(package, "creator"), first_text(package, "language")
    metadata = {name: value for name, value in (("author", creator), ("language", language)) if value}
    return Extraction("\n\n".join(filter(None, texts)), first_text(package, "title"), metadata)


def _reading_order(package: Any, folder: str) -> list[str]:
    """Names of the members that the spine lists; names only, never opened as paths."""
    items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    ordered = (items.get(reference.get("idref")) for reference in package.iterfind("{*}spine/{*}itemref"))
    return list(
        dict.fromkeys(
            posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
            for item in ordered
            if item is not None and item.get("media-type") in _PAGES and "nav" not in item.get("properties", "").split()
        )
    )

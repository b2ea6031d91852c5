"""Parsing markup that may be hostile, and going through its tree without recursion."""

import html.entities
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree

from engine.documents.extraction import Unreadable

__all__ = ["first_text", "local_name", "parse_xml", "walk"]

_ENTITIES = html.entities.html5  # by name, with the semicolon


def parse_xml(content: bytes, what: str) -> Any:
    """The root of an XML document. Entities stay unexpanded, nothing is fetched, depth and sizes keep libxml2's limits.

    Raises:
        Unreadable: it is not well-formed, or meets a limit.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"{what} is no well-formed XML") from error


def local_name(element: Any) -> str:
    """An element's name without its namespace."""
    tag: str = element.tag
    return tag.rpartition("}")[2] if "}" in tag else tag


def walk(root: Any, is_dropped: Callable[[Any], bool]) -> Iterator[tuple[Any, bool, str | None]]:
    """Each element twice, with the text that comes next: (element, True, its text), then (element, False, its tail).

    What is no element (comments, processing instructions) and what is dropped gives (None, False, its tail); a named
    character of HTML comes with that text.
    """
    yield root, True, root.text
    around = [(root, iter(root))]
    while around:
        element, children = around[-1]
        child = next(children, None)
        if child is None:
            around.pop()
            yield element, False, element.tail if around else None
        elif isinstance(child.tag, str) and not is_dropped(child):
            yield child, True, child.text
            around.append((child, iter(child)))
        elif child.tag is etree.Entity:
            yield None, False, _ENTITIES.get(child.text[1:], "") + (child.tail or "")
        else:
            yield None, False, child.tail


def first_text(root: Any, *names: str) -> str:
    """The text of the first element with one of these local names that has any, looking for each name in turn."""
    for name in names:
        for element in root.iter(f"{{*}}{name}"):
            if text := " ".join("".join(element.itertext()).split()):
                return text
    return ""

"""HTML: the page's title and its main text, without menus, scripts and page furniture."""

import re
from html import unescape
from typing import Any

from lxml import etree
from lxml.html import HTMLParser

from engine.documents.encoding import decode
from engine.documents.extraction import Extraction, Unreadable
from engine.documents.layout import Layout
from engine.documents.markup import local_name, parse_xml, walk
from engine.documents.text import in_one_line

__all__ = ["page", "read"]

_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+) | <\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_XML = re.compile(rb"\s*(?:\xef\xbb\xbf)?<\?xml\s")


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Never text of the page.
_DROPPED = _names(
    """
    script style noscript template head nav input select textarea datalist svg math iframe object embed
    canvas audio video dialog map progress meter
    """
)
# Furniture when they belong to the page, content when they belong to an article (HTML Standard, landmark roles).
_FURNITURE = frozenset({"header", "footer", "aside"})
_SECTIONS = frozenset({"article", "main", "section"})
_DROPPED_ROLES = _names(
    """
    navigation banner contentinfo search complementary menu menubar toolbar dialog
    """
)
_DROPPED_CLASSES = _names(
    """
    navheader navfooter sphinxsidebar footer skip-link sr-only visually-hidden cookie-banner mw-jump-link
    mw-editsection headerlink toc-backref fr-sr-only fr-skiplinks
    """
)
# Links to other pages, most of the time; a canteen has its menu too.
_MENU_CLASSES = _names("nav navbar navigation menu breadcrumb breadcrumbs related relatedtopics sidebar")
_INLINE = _names("a abbr b cite code em i mark q s small span strong sub sup u")
# Where a button is the line to unfold an answer by, and its text the question.
_UNFOLDING = _names("h1 h2 h3 h4 h5 h6 summary dt")
_BLOCKS = _names(
    """
    address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form header
    hgroup legend main ol p section summary table ul tbody thead tfoot caption
    """
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
# A paragraph of its own; other blocks only start a new line.
_PARAGRAPHS = (
    frozenset({"p", "blockquote", "figure", "table", "ul", "ol", "dl", "section", "article", "main"}) | _HEADINGS
)
_LONGEST_CELL = 400
_SHORTEST_PROSE = 80
_MOST_LINKED = 0.5


def read(content: bytes) -> Extraction:
    """Read an HTML page."""
    declared = _DECLARED.search(content[:4096])
    name = next(filter(None, declared.groups())).decode("ascii", "replace") if declared else None
    text, guessed = decode(content, name)
    title, body = page(text.encode(), is_xml=_XML.match(content) is not None)
    first_line, _, rest = body.partition("\n")
    if first_line == title and rest:  # the title stands before every passage as it is
        body = rest.lstrip()
    return Extraction(body, title, {"encoding": guessed} if guessed else {})


def page(content: bytes, *, is_xml: bool = False, is_book: bool = False) -> tuple[str, str]:
    """The title and the main text of a page in UTF-8. XHTML is read as XML when it is well-formed.

    A page of a book has no furniture of a site's: its headers and asides are text.
    """
    root = _parse(content, is_xml)
    if root is None:
        return "", ""
    elements = {name: list(root.iter(name, f"{{*}}{name}")) for name in ("title", "h1", "main", "body")}
    whole = elements["body"][0] if elements["body"] else root
    body = _text(whole, is_book=True) if is_book else _main(root, elements["main"]) or _text(whole)
    if not body:  # a page shown by its scripts, or classes that mean something else here
        body = _text(elements["body"][0] if elements["body"] else root, by_name_only=True)
    return _title(elements["title"], elements["h1"]), body


def _parse(content: bytes, is_xml: bool) -> Any:
    if is_xml:
        try:
            # The text was decoded already, so whatever the prolog declares is wrong by now.
            return parse_xml(re.sub(rb"^\s*<\?xml[^>]*\?>", b"", content, count=1), "page")
        except Unreadable:
            pass
    if not content.strip():
        return None
    # The size of `content` is bounded; huge_tree raises the limit of nesting from 256 elements to 2048.
    parser = HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    root = etree.fromstring(content, parser)
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
        raise Unreadable("HTML nested too deeply")  # libxml2 drops the rest without failing
    return root


def _title(titles: list[Any], headings: list[Any]) -> str:
    """The page's title; its first heading when the title only adds the site's name to it, or is missing."""
    # XHTML read as XML leaves named characters as they are written.
    title, heading = (
        next(filter(None, (in_one_line(unescape("".join(element.itertext()))) for element in found)), "")
        for found in (titles[:1], headings)
    )
    return heading if not title or (len(heading) > 2 and heading in title) else title


def _main(root: Any, mains: list[Any]) -> str:
    """The text of the page's <main>, empty when there is none."""
    main = mains[0] if mains else next(iter(root.xpath("//*[@role='main']")), None)
    return "" if main is None else _text(main)


def _text(root: Any, *, by_name_only: bool = False, is_book: bool = False) -> str:
    layout = Layout()
    _Walk(layout, by_name_only, is_book).run(root)
    return layout.text()


class _Walk:
    """One pass over a tree, without recursion, that feeds the layout."""

    def __init__(self, layout: Layout, by_name_only: bool, is_book: bool) -> None:
        self.layout, self.by_name_only = layout, by_name_only
        self.sections = int(is_book)  # articles and sections around
        self.tables: list[bool] = []  # of the tables around: does it hold data?
        self.lists: list[int | None] = []  # of the lists around: the number of the next item, None for bullets

    def run(self, root: Any) -> None:
        for element, opens, text in walk(root, self._is_dropped):
            if element is not None:
                self._open(element) if opens else self._close(element)
            self.layout.write(text)

    def _is_dropped(self, element: Any) -> bool:
        name = local_name(element)
        if name in _DROPPED or (name in _FURNITURE and not self.sections):
            return True
        if name == "button" and not any(local_name(around) in _UNFOLDING for around in element.iterancestors()):
            return True
        attributes = element.attrib
        if not attributes or self.by_name_only:
            return False
        classes = set(attributes.get("class", "").lower().split())
        if (
            attributes.get("role", "") in _DROPPED_ROLES
            or attributes.get("aria-hidden") == "true"
            or not _DROPPED_CLASSES.isdisjoint(classes)
        ):
            return True
        # A tab, an answer that unfolds and a page's own menu of dishes are text all the same.
        is_folded = "hidden" in attributes or "display:none" in attributes.get("style", "").replace(" ", "")
        is_menu = name not in _INLINE and not _MENU_CLASSES.isdisjoint(classes)
        return ((is_folded and not _is_last_choice(element)) or is_menu) and not _is_prose(element)

    def _open(self, element: Any) -> None:
        name, layout = local_name(element), self.layout
        self.sections += name in _SECTIONS
        if name in ("td", "th"):
            layout.cell(in_data=bool(self.tables) and self.tables[-1])
        elif name == "tr":
            layout.line()
        elif name == "table":
            layout.paragraph()
            self.tables.append(_holds_data(element))
        elif name in ("ul", "ol", "menu"):
            layout.line() if self.lists else layout.paragraph()
            self.lists.append(_first_number(element) if name == "ol" else None)
        elif name == "li":
            layout.item(len(self.lists), self._marker())
        elif name == "pre":
            layout.preformatted += 1
            layout.paragraph()
        elif name in ("br", "hr"):
            self._break(name)
        elif name == "a" and "#" in element.get("href", "") and "".join(element.itertext()).strip().isdecimal():
            layout.apart()  # the number of a note
        else:
            self._space(name)

    def _close(self, element: Any) -> None:
        name, layout = local_name(element), self.layout
        self.sections -= name in _SECTIONS
        if name == "table":
            self.tables.pop()
            layout.paragraph()
        elif name in ("ul", "ol", "menu"):
            self.lists.pop()
            layout.line() if self.lists else layout.paragraph()
        elif name == "pre":
            layout.paragraph()
            layout.preformatted -= 1
        elif name == "li":
            layout.end_item()
        elif name == "tr":
            layout.line()
        elif name not in ("br", "hr"):
            self._space(name)

    def _break(self, name: str) -> None:
        if self.tables and self.tables[-1]:
            self.layout.write(" ")
        elif name == "br":
            self.layout.line()
        else:
            self.layout.paragraph()

    def _space(self, name: str) -> None:
        """What stands before and after an element that starts a line or a paragraph."""
        in_data = bool(self.tables) and self.tables[-1]
        if in_data and (name in _PARAGRAPHS or name in _BLOCKS):
            self.layout.write(" ")
        elif name in _PARAGRAPHS and not (self.lists and name == "p"):
            self.layout.paragraph()
        elif name in _PARAGRAPHS or name in _BLOCKS:
            self.layout.line()

    def _marker(self) -> str:
        number = self.lists[-1] if self.lists else None
        if number is None:
            return "- "
        self.lists[-1] = number + 1
        return f"{number}. "


def _is_last_choice(element: Any) -> bool:
    """Whether an inline element is the last of several that are all hidden: a script shows the one that fits."""
    choices = [] if element.getnext() is not None else list(element.getparent())
    return local_name(element) in _INLINE and len(choices) > 1 and all("hidden" in one.attrib for one in choices)


def _is_prose(element: Any) -> bool:
    """Whether an element holds text to be read, rather than links, labels or a message."""
    text = sum(len(part.strip()) for part in element.itertext())
    linked = sum(len(part.strip()) for link in element.iter("a", "{*}a") for part in link.itertext())
    return text >= _SHORTEST_PROSE and linked <= _MOST_LINKED * text


def _first_number(element: Any) -> int:
    start = element.get("start", "1")
    return int(start) if start.isdecimal() and len(start) < 7 else 1


def _holds_data(table: Any) -> bool:
    """Whether a table's cells are short texts, to be read row by row, rather than the parts of a page."""
    length = 0
    for element in table.iterdescendants():
        if not isinstance(element.tag, str):
            continue
        name = local_name(element)
        if name in _HEADINGS or name in ("table", "pre", "ul", "ol"):
            return False
        length = 0 if name in ("td", "th") else length
        length += len(element.text or "") + len(element.tail or "")
        if length > _LONGEST_CELL:
            return False
    return True

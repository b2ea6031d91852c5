"""Reports as aligned columns: what indexing did, collections, documents."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.records import AddReport, Document
from engine.terminal.output import counted
from engine.terminal.render import fold
from engine.terminal.sanitise import sanitise, sanitise_line
from engine.terminal.style import Style, cell_width

__all__ = ["add_report", "add_report_record", "collections", "columns", "document", "document_record", "lines", "pairs"]

_GAP = "  "
_LEAST_WIDTH = 20
_UNFOLDED = Style(width=sys.maxsize)
_KINDS_SHOWN = 8
_REJECTIONS_SHOWN = 20


def columns(rows: Iterable[Sequence[object]], style: Style, *, header: Sequence[str] = ()) -> str:
    """Rows as left-aligned columns, numbers to the right; None is left blank, a last column of text is folded."""
    values = [list(row) for row in rows]
    table = [[_cell(value) for value in row] for row in values]
    heads = [list(header)] if header else []
    widths = [max(map(cell_width, column)) for column in zip(*heads, *table, strict=True)]
    numeric = [all(isinstance(row[at], int | float | None) for row in values) for at in range(len(widths))]
    margin = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, right in zip(cells[:-1], widths[:-1], numeric[:-1], strict=True):
            space = " " * (width - cell_width(cell))
            padded.append(space + cell if right else cell + space)
        if numeric[-1]:
            last = [" " * (widths[-1] - cell_width(cells[-1])) + cells[-1]]
        else:
            last = fold(cells[-1], max(_LEAST_WIDTH, style.width - margin))
        first, *rest = last
        return "\n".join([_GAP.join([*padded, first]).rstrip(), *(" " * margin + one for one in rest)])

    shown = [style.paint(line(head), "bold") for head in heads]
    return "\n".join(shown + [line(row) for row in table])


def lines(found: Iterable[str], _: Style) -> str:
    """One a line."""
    return "\n".join(map(sanitise_line, found))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return sanitise_line(str(value))


def _value(value: object) -> str:
    """A value of its own, not one of a column: as exact as it is."""
    return f"{value:.12g}" if isinstance(value, float) else _cell(value)


def pairs(record: Mapping[str, Any], style: Style, *, depth: int = 0) -> str:
    """Names and values, one a line; a mapping inside is set in below its name."""
    lines = []
    margin = "  " * depth
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        label = style.paint(name.replace("_", " "), "bold")
        if isinstance(value, Mapping) and value:
            lines += [f"{margin}{label}", pairs(value, style, depth=depth + 1)]
        elif isinstance(value, list | tuple) and value and not all(isinstance(item, str | int) for item in value):
            lines.append(f"{margin}{label}")
            lines += [f"{margin}  {_listed(item)}" for item in value]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple | Mapping) else _value(value)
            lines.append(f"{margin}{label}{' ' * (width - len(name))}  {sanitise_line(shown) or '–'}")
    return "\n".join(lines)


def collections(found: Iterable[Mapping[str, Any]], style: Style) -> str:
    """Collections, one a line: the keys of the first are the columns; then what is wrong with those that are damaged.

    Where the lines would be wider than the terminal, they go without the paths, which `fouille info` tells.
    """
    rows = list(found)
    names = [name for name in (rows[0] if rows else ()) if name != "error"]
    while True:
        header = [name.replace("_", " ") for name in names]
        table = columns([[row.get(name) for name in names] for row in rows], _UNFOLDED, header=header)
        if "path" not in names or max(map(cell_width, table.split("\n"))) <= style.width:
            break
        names.remove("path")
    heading, *rest = table.split("\n")
    errors = [f"{row.get('name')}: {row['error']}" for row in rows if row.get("error")]
    return "\n".join([style.paint(heading, "bold"), *rest, *_complaints(errors, style)])


def _complaints(errors: Iterable[str], style: Style) -> list[str]:
    return [style.paint(line, "yellow") for error in errors for line in fold(sanitise_line(error), style.width)]


def _listed(item: object) -> str:
    if isinstance(item, Mapping):
        return sanitise_line(", ".join(f"{name} {_value(value)}" for name, value in item.items()))
    return _value(item)


def _passed_over(skipped: Mapping[str, int], style: Style) -> str:
    """How many files were of kinds that are not read, and which kinds, the most frequent first."""
    total = sum(skipped.values())
    kinds = sorted(skipped.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = [f"{sanitise_line(name)} {count:,}" for name, count in kinds[:_KINDS_SHOWN]]
    more = ", …" if len(kinds) > _KINDS_SHOWN else ""
    what = f"{counted(total, 'file')} ({', '.join(shown)}{more})"
    return columns([("passed over", what)], style)


def add_report_record(report: AddReport) -> dict[str, Any]:
    """What an indexing run did, for JSON."""
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "rejected": report.rejected,
        "passages": report.passages,
        "rejections": [{"where": r.where, "line": r.line, "reason": r.reason} for r in report.rejections],
        "skipped": dict(report.skipped),
        "seconds": dict(report.seconds),
        "notices": list(report.notices),
    }


def add_report(report: AddReport, style: Style) -> str:
    """What an indexing run did: counts, seconds by part, and the first documents that were refused, with reasons."""
    counts = columns(
        [
            (name, getattr(report, name))
            for name in ("added", "updated", "unchanged", "removed", "rejected", "passages")
        ],
        style,
        header=("documents", ""),
    )
    # Passages are no documents: their line stands apart from the counts above it.
    *documents, passages = counts.split("\n")
    if report.skipped:
        documents.append(_passed_over(report.skipped, style))
    blocks = ["\n".join([*documents, "", passages])]
    if report.seconds:
        blocks.append(columns(list(report.seconds.items()), style, header=("seconds", "")))
    if report.rejections:
        first = report.rejections[:_REJECTIONS_SHOWN]
        of = f" (the first {len(first)} of {report.rejected:,}; --format json has more)"
        head = "rejected" + (of if len(first) < report.rejected else "")
        reasons = [f"  {sanitise_line(str(rejection))}" for rejection in first]
        blocks.append("\n".join([style.paint(head, "yellow"), *reasons]))
    return "\n\n".join(blocks)


def document_record(found: Document) -> dict[str, Any]:
    """A document for JSON; its text is exact."""
    return {
        "key": found.key,
        "title": found.title,
        "metadata": dict(found.metadata),
        "pages": list(found.pages),
        "text": found.text,
    }


def document(found: Document, style: Style) -> str:
    """A document's title, key, metadata and text, page by page where it has pages."""
    head = [style.paint(sanitise_line(found.title or found.key), "bold"), style.paint(sanitise_line(found.key), "cyan")]
    head += [style.paint(sanitise_line(f"{name}: {value}"), "dim") for name, value in found.metadata.items()]
    if not found.pages:
        return "\n".join([*head, "", sanitise(found.text).lstrip("\n")])  # front matter leaves its lines empty
    ends = [*found.pages[1:], len(found.text)]
    body = []
    for number, (start, end) in enumerate(zip(found.pages, ends, strict=True), start=1):
        body += ["", style.paint(f"— p. {number} —", "dim"), sanitise(found.text[start:end]).strip("\n")]
    return "\n".join([*head, *body])

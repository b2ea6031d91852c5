"""Hits as a person reads them: who, where, and the passage with the question's words lit."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.records import Hit, SearchResult, Span
from engine.terminal.sanitise import sanitise_line, sanitise_spans
from engine.terminal.style import PLAIN, Style, cell_width

__all__ = ["EXCERPT_LINES", "explain", "explain_hit", "fold", "fold_between", "passage", "place", "render", "timing"]

EXCERPT_LINES = 6
_INDENT = "    "
_WORD = re.compile(r"[^ \n]+")
_EVERY_BREAK = re.compile(r"\n")
# The breaks that say something when the others flow away: a blank line, a heading's ends, an item of a list or a table.
_TELLING_BREAK = re.compile(r"(?m)^[ ]*#{1,6} .*\n|\n(?=[ ]*(?:\n|#{1,6} |[-*+•|] |[^\n|]*\S \| |\d{1,3}[.)] ))")
_LEAST_WIDTH = 20


class Line(NamedTuple):
    """One line on the screen: its words and the lit stretches that touch it, as spans of the text."""

    words: tuple[Span, ...]
    lit: tuple[Span, ...]


def _break(text: str, word: Span, width: int) -> Iterable[Span]:
    """A word in parts that fit the line; most fit whole."""
    start, end = word
    if cell_width(text[start:end]) <= width:
        yield word
        return
    taken = 0
    for at in range(start, end):
        cells = cell_width(text[at])
        if taken + cells > width and at > start:
            yield start, at
            start, taken = at, 0
        taken += cells
    yield start, end


def _fill(text: str, width: int, breaks: re.Pattern[str]) -> Iterator[tuple[Span, ...]]:
    """The words of each line of at most `width` cells; the text's own line breaks flow away but for those wanted."""
    start = 0
    for end in (*(found.end() for found in breaks.finditer(text)), len(text)):
        words: list[Span] = []
        used = 0
        for found in _WORD.finditer(text, start, end):
            for part in _break(text, found.span(), width):
                cells = cell_width(text[slice(*part)])
                if words and used + 1 + cells > width:
                    yield tuple(words)
                    words, used = [], 0
                used += cells + bool(words)
                words.append(part)
        if words:
            yield tuple(words)
        start = end


def _joined(text: str, words: Iterable[Span]) -> str:
    return " ".join(text[start:end] for start, end in words)


def fold(line: str, width: int) -> list[str]:
    """One line of text as lines of at most `width` cells, cut between words, all as far in; an empty one stays."""
    margin = line[: len(line) - len(line.lstrip(" "))]
    if len(margin) >= width // 2:
        margin = ""
    return [margin + _joined(line, words) for words in _fill(line, width - len(margin), _EVERY_BREAK)] or [""]


def fold_between(parts: Iterable[str], separator: str, width: int) -> list[str]:
    """Parts in a row, as lines of at most `width` cells that end between two of them."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_width(longer := f"{lines[-1]} {separator} {part}") <= width:
            lines[-1] = longer
        else:
            # What follows may still push the separator onto this line.
            lines[-1:] = [*(f"{line} {separator}" for line in lines[-1:]), part]
    return lines


def _wrap(text: str, lit: Sequence[Span], width: int, breaks: re.Pattern[str]) -> list[Line]:
    lines: list[Line] = []
    first = 0
    for words in _fill(text, width, breaks):
        start, end = words[0][0], words[-1][1]
        while first < len(lit) and lit[first][1] <= start:
            first += 1
        last = first
        while last < len(lit) and lit[last][0] < end:
            last += 1
        lines.append(Line(words, tuple(lit[first:last])))
    return lines


def _paint(text: str, line: Line, style: Style) -> str:
    """One line of the screen, the lit stretches of its words in colour."""
    shown = []
    for start, end in line.words:
        at = start
        word = ""
        for a, b in line.lit:
            if a < end and b > at:
                a, b = max(a, at), min(b, end)
                word += text[at:a] + style.paint(text[a:b], "match")
                at = b
        shown.append(word + text[at:end])
    return " ".join(shown)


def _excerpt(lines: Sequence[Line], most: int) -> tuple[int, int]:
    """Which `most` consecutive lines hold most of what is lit; the earliest of equals."""
    if len(lines) <= most:
        return 0, len(lines)
    start = max(
        range(len(lines) - most + 1), key=lambda at: (sum(len(line.lit) for line in lines[at : at + most]), -at)
    )
    return start, start + most


def passage(hit: Hit, style: Style, *, full: bool = False) -> list[str]:
    """The lines of a hit's text: all of it with its own line breaks, or the part where most is lit."""
    text, lit = sanitise_spans(hit.text, hit.highlights)
    width = max(_LEAST_WIDTH, style.width - len(_INDENT) - 2)
    lines = _wrap(text, lit, width, _EVERY_BREAK if full else _TELLING_BREAK)
    if not full and len(lines) > 1 and " ".join(_joined(text, lines[0].words).lstrip("# ").split()) == hit.title:
        del lines[0]  # the title stands above it
    start, end = (0, len(lines)) if full else _excerpt(lines, EXCERPT_LINES)
    shown = [_paint(text, line, style) for line in lines[start:end]]
    if start > 0:
        shown[0] = f"… {shown[0]}"
    if end < len(lines):
        shown[-1] = f"{shown[-1]} …"
    return shown


def place(hit: Hit) -> str:
    """The pages that the passage is on, or the line where it begins, as far as it is known."""
    if hit.page is not None:
        return f"p. {hit.page}" if hit.last_page in (None, hit.page) else f"p. {hit.page}–{hit.last_page}"
    return "" if hit.line is None else f"l. {hit.line}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def explain_hit(hit: Hit) -> str:
    """Where a hit's place came from, on one line."""
    parts = []
    if hit.bm25_rank is not None or hit.bm25_score is not None:
        parts.append(f"bm25 {_number(hit.bm25_score)}{_at(hit.bm25_rank)}")
    if hit.dense_rank is not None or hit.dense_score is not None:
        parts.append(f"dense {_number(hit.dense_score)}{_at(hit.dense_rank)}")
    if hit.fused_score is not None:
        parts.append(f"fused {_number(hit.fused_score)}")
    if hit.rerank_logit is not None:
        parts.append(f"rerank logit {_number(hit.rerank_logit)}, sigmoid {_number(hit.rerank_score)}")
        if hit.first_stage_z is not None:
            parts.append(f"first stage z {_number(hit.first_stage_z)}")
        if hit.score != hit.rerank_score:
            weighted = hit.score - hit.rerank_logit
            parts.append(f"score = logit {hit.rerank_logit:.4f} {weighted:+.4f} from the first stage")
    if hit.truncated:
        parts.append("read in part by the reranker")
    return " · ".join(parts)


def _at(rank: int | None) -> str:
    return " (not in its candidates)" if rank is None else f" (#{rank})"


def explain(result: SearchResult) -> str:
    """How the search went, on one line."""
    steps = [result.first_stage, f"{result.candidates} candidate{'s'[: result.candidates != 1]}"]
    if result.reranker is None:
        steps.append("no reranker")
    else:
        steps.append(sanitise_line(result.reranker))
        if result.draft_precision is not None:
            again = f"{result.rescored} of {result.candidates} again in {result.precision}"
            steps.append(f"{result.draft_precision} draft, {again}")
        elif result.precision is not None:
            steps.append(result.precision)
        steps.append(f"{result.truncated} truncated")
    return " → ".join(steps)


def timing(timings: Mapping[str, float], width: int = PLAIN.width) -> str:
    """The parts of a search in milliseconds, the total last, on lines of at most `width` cells."""
    names = [name for name in timings if name != "total"] + ["total"] * ("total" in timings)
    parts = (f"{name.replace('_', ' ')} {timings[name] * 1000:.1f} ms" for name in names)
    return "\n".join(fold_between(parts, "·", width))


def render(result: SearchResult, style: Style, *, full: bool = False, explained: bool = False) -> str:
    """The hits, best first, one block each; empty when there are none."""
    blocks = [_hit(hit, style, full=full, explained=explained) for hit in result.hits]
    if explained:
        blocks.insert(0, "\n".join(style.paint(line, "dim") for line in fold(explain(result), style.width)))
    return "\n\n".join(blocks)


def _hit(hit: Hit, style: Style, *, full: bool, explained: bool) -> str:
    title, source = sanitise_line(hit.title), " ".join(filter(None, (sanitise_line(hit.key), place(hit))))
    head = f"{style.paint(f'{hit.rank:>2}', 'bold')}  {style.paint(f'{hit.score:.4f}', 'green')}"
    number = cell_width(f"{hit.rank:>2}  {hit.score:.4f}  ")

    def sourced(line: str, colour: str) -> str:
        address, painted = hit.metadata.get("url"), style.paint(line, colour)
        return style.link(painted, address) if isinstance(address, str) else painted

    first, *more = fold(title or source, max(_LEAST_WIDTH, style.width - number))
    lines = [f"{head}  {style.paint(first, 'bold') if title else sourced(first, 'bold')}"]
    lines += [" " * number + style.paint(line, "bold") for line in more]
    if title:  # else the source stands in its place
        below = fold(source, max(_LEAST_WIDTH, style.width - len(_INDENT)))
        lines += [_INDENT + sourced(line, "cyan") for line in below]
    lines += [_INDENT + line for line in passage(hit, style, full=full)]
    if explained:
        shown = fold(explain_hit(hit), max(_LEAST_WIDTH, style.width - len(_INDENT)))
        lines += [_INDENT + style.paint(line, "dim") for line in shown]
    return "\n".join(lines)

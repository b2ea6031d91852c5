"""A search's result for a program to read: JSON, JSONL, CSV and TREC, with keys that do not change."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from engine.errors import InvalidOption
from engine.records import Hit, SearchResult, document_scores
from engine.terminal.sanitise import escape_json, sanitise

__all__ = ["FORMATS", "HIT_KEYS", "RUN_TAG", "as_csv", "as_json", "as_jsonl", "as_trec", "hit_record", "to_json"]

RUN_TAG = "fouille"

# What a reader looks for first stands first; the rest follows in the order of the record.
_FIRST = ("rank", "score", "key", "title", "page", "last_page", "line", "text", "highlights")
HIT_KEYS = (*_FIRST, *(field.name for field in fields(Hit) if field.name not in _FIRST))
_CSV_KEYS = tuple(key for key in HIT_KEYS if key not in {"highlights", "metadata"})


def _plain(value: object) -> Any:
    """`value` as JSON has it: no NaN, no infinity, no type of numpy's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def to_json(value: object, *, indent: int | None = 2) -> str:
    """Any of fouille's reports as JSON text, harmless on a terminal and exact when read back."""
    return escape_json(json.dumps(_plain(value), ensure_ascii=False, indent=indent, allow_nan=False))


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as a mapping of `HIT_KEYS`."""
    return {key: getattr(hit, key) for key in HIT_KEYS}


def as_json(result: SearchResult) -> str:
    """One object; `hits` is empty when there are none, all else stays."""
    return to_json(
        {
            "question": result.question,
            "first_stage": result.first_stage,
            "reranker": result.reranker,
            "precision": result.precision,
            "draft_precision": result.draft_precision,
            "rescored": result.rescored,
            "candidates": result.candidates,
            "truncated": result.truncated,
            "timings": result.timings,
            "notices": result.notices,
            "hits": [hit_record(hit) for hit in result.hits],
        }
    )


def as_jsonl(result: SearchResult) -> str:
    """One hit a line."""
    return "\n".join(to_json(hit_record(hit), indent=None) for hit in result.hits)


def as_csv(result: SearchResult) -> str:
    """A header and one hit a row, as RFC 4180 has it; text is made harmless, its line breaks stay inside quotes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_KEYS)
    for hit in result.hits:
        record = hit_record(hit)
        writer.writerow(sanitise(value) if isinstance(value := record[key], str) else value for key in _CSV_KEYS)
    return out.getvalue().removesuffix("\n")


def as_trec(result: SearchResult, question_id: str = "1") -> str:
    """A TREC run, `qid Q0 docid rank score tag`: each document once, where its best passage stands.

    Raises:
        InvalidOption: the question's id or a document's key holds white space, which a TREC run cannot carry.
    """
    if question_id.split() != [question_id]:
        raise InvalidOption(
            f"{question_id!r} is no id for a question", where="--qid", hint="one word, as in a qrels file"
        )
    from engine.evaluation.lines import odd_character

    best: dict[str, float] = {}
    for key, score in zip(*document_scores(result), strict=True):
        best.setdefault(key, score)
    for key in best:
        if odd_character(key) or sanitise(key) != key:  # what turns the line of a terminal around is no odd character
            raise InvalidOption(f"a TREC run cannot carry the key {key!r}", hint="use --format jsonl, or other keys")
    return "\n".join(
        f"{question_id} Q0 {key} {rank} {score!r} {RUN_TAG}" for rank, (key, score) in enumerate(best.items(), start=1)
    )


FORMATS: Mapping[str, Callable[[SearchResult], str]] = {
    "json": as_json,
    "jsonl": as_jsonl,
    "csv": as_csv,
    "trec": as_trec,
}

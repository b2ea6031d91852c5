"""Groups of files that hold texts: triples, and judged pairs of a question and a passage, in TSV or JSONL."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import TrainingError
from engine.evaluation.corpora import json_lines
from engine.evaluation.lines import numbered_lines
from engine.training.examples import POSITIVE, Group, checked_label, checked_text, read_groups
from engine.training.spool import Spool

__all__ = ["read_file"]

_QUESTION = ("question", "query", "anchor")
_PASSAGE = ("passage", "text", "document")
_POSITIVE = ("positive", "pos")
_NEGATIVE = ("negative", "neg", "negatives")
_LABEL = ("label", "relevance", "score")
_COLUMNS = 3
_HEADER = "a header of judged pairs is question, passage, label"


class Judgement(NamedTuple):
    """One question, one passage, how relevant it is, and the line that says so."""

    question: str
    passage: str
    label: float
    where: str


def read_file(path: Path) -> Iterator[Group]:
    """Streams the groups of a file; lines of one question need not be together.

    A JSONL file holds groups (`question`, `passages`, `labels`, perhaps `scores`), triples (`question`, `positive`,
    `negative`; either may be a list) or pairs (`question`, `passage`, `label`), as its first line shows. A TSV file has
    three columns: a triple of texts or, where the third column of the first line is a number, a judged pair; a first
    line of their JSONL names is a header.

    Raises:
        TrainingError: a line of another kind, an empty text, a label outside [0, 1], or a question without positives.
        EvaluationError: the file cannot be read.
    """
    if ".tsv" in path.suffixes:
        yield from _grouped(_from_tsv(path))
        return
    first = next(json_lines(path), None)
    if first is None:
        raise TrainingError("holds nothing to learn from", where=path)
    if "passages" in first[1]:
        yield from read_groups(path)
    else:
        yield from _grouped(_from_jsonl(path))


def _from_tsv(path: Path) -> Iterator[Judgement]:
    labelled: bool | None = None
    texts = numbers = 0  # third columns of triples, but for that of a first line, which may be a header of other names
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        try:
            fields = line.decode().split("\t")
        except UnicodeDecodeError:
            raise TrainingError("the line is not UTF-8", where=where) from None
        if len(fields) != _COLUMNS:
            raise TrainingError(
                f"{len(fields)} columns where three are expected: question, passage, label, or a triple", where=where
            )
        number_ = _number(fields[2])
        if labelled is None:
            names = [field.strip().casefold() for field in fields]
            if names[0] in _QUESTION and names[1] in (*_PASSAGE, *_POSITIVE) and names[2] in (*_LABEL, *_NEGATIVE):
                labelled = names[2] in _LABEL
                continue
            labelled = number_ is not None
            texts = -1
        if labelled:
            yield _judgement(fields[0], fields[1], fields[2] if number_ is None else number_, where)
        else:
            texts, numbers = texts + (number_ is None), numbers + (number_ is not None)
            yield _judgement(fields[0], fields[1], 1.0, where)
            yield _judgement(fields[0], fields[2], 0.0, where)
    if numbers and not texts:
        raise TrainingError("the third column holds numbers, where a triple has a negative", where=path, hint=_HEADER)


def _from_jsonl(path: Path) -> Iterator[Judgement]:
    for number, record in json_lines(path):
        where = f"{path}:{number}"
        question, positive = _field(record, _QUESTION), _field(record, _POSITIVE)
        if positive is None:
            yield _judgement(question, _field(record, _PASSAGE), _field(record, _LABEL), where)
            continue
        for texts, label in ((positive, 1.0), (_field(record, _NEGATIVE), 0.0)):
            for text in texts if isinstance(texts, list) else [texts]:
                yield _judgement(question, text, label, where)


def _field(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if name in record), None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _judgement(question: object, passage: object, label: object, where: str) -> Judgement:
    return Judgement(
        checked_text(question, "the question", where),
        checked_text(passage, "the passage", where),
        checked_label(label, where),
        where,
    )


def _grouped(judgements: Iterable[Judgement]) -> Iterator[Group]:
    """Groups in the order in which their questions come first; passages wait on disk."""
    spool = Spool()
    rows: dict[str, array[int]] = {}
    for judgement in judgements:
        rows.setdefault(judgement.question, array("q")).append(spool.append(judgement[1:]))
    for question, numbers in rows.items():
        labels: dict[str, float] = {}
        for number in numbers:
            passage, label, _ = spool[number]
            labels[passage] = max(label, labels.get(passage, 0.0))
        if max(labels.values()) <= POSITIVE:
            raise TrainingError("the question has no positive", where=spool[numbers[0]][2])
        yield Group(question, tuple(labels), tuple(labels.values()))

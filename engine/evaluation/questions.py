"""Questions of TSV and JSONL files, BEIR folders and ir_datasets."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import EvaluationError
from engine.evaluation.corpora import IRDS, irds_dataset, json_lines, tsv_lines
from engine.evaluation.lines import odd_character

__all__ = ["Question", "read_questions"]

_IDS = ("_id", "id", "query_id", "qid", "question_id")
_TEXTS = ("text", "query", "question")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Question(NamedTuple):
    """A question and the id that runs and qrels know it by."""

    id: str
    text: str


def read_questions(source: str | Path, *, only: Collection[str] | None = None) -> list[Question]:
    """Reads questions in the order they stand.

    Args:
        source: a TSV file (`id`, text), a JSONL file (`_id` or `id`, `text` or `query`), either of them gzipped, a BEIR
            folder (its queries.jsonl), or `irds:ID`.
        only: keep these ids alone, say the questions of some qrels.

    Raises:
        EvaluationError: nothing to read there; a line with an odd id, no text or text that is no Unicode, or an id that
            came before; or none of the questions is in `only`.
    """
    spec = str(source)
    path = Path(source)
    if spec.startswith(IRDS):
        read = _from_irds(spec)
    elif path.is_dir():
        read = _from_jsonl(_queries_of(path))
    elif ".jsonl" in path.suffixes or ".json" in path.suffixes:
        read = _from_jsonl(path)
    else:
        read = ((f"{path}:{number}", Question(*rest)) for number, *rest in tsv_lines(path))
    questions: dict[str, Question] = {}
    for where, question in read:
        if reason := odd_character(question.id):
            raise EvaluationError(reason, where=where)
        if question.id in questions:
            raise EvaluationError(f"question {question.id!r} stands twice", where=where)
        if not question.text.strip():
            raise EvaluationError(f"question {question.id!r} has no text", where=where)
        if _SURROGATE.search(question.text):
            raise EvaluationError(f"question {question.id!r} holds a lone surrogate", where=where)
        questions[question.id] = question
    if not questions:
        raise EvaluationError("holds no question", where=spec)
    kept = [question for question in questions.values() if only is None or question.id in only]
    if not kept:
        raise EvaluationError("none of the questions is judged", where=spec, hint="do the qrels belong to them?")
    return kept


def _queries_of(folder: Path) -> Path:
    for name in ("queries.jsonl", "queries.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise EvaluationError("not a BEIR folder: it has no queries.jsonl", where=folder)


def _from_jsonl(path: Path) -> Iterator[tuple[str, Question]]:
    for number, record in json_lines(path):
        identifier = next((record[name] for name in _IDS if name in record), None)
        text = next((record[name] for name in _TEXTS if name in record), None)
        if not isinstance(identifier, str | int) or not isinstance(text, str):
            raise EvaluationError("the record needs an _id and a text", where=f"{path}:{number}")
        yield f"{path}:{number}", Question(str(identifier), text)


def _from_irds(spec: str) -> Iterator[tuple[str, Question]]:
    with irds_dataset(spec) as dataset:
        if not dataset.has_queries():
            raise EvaluationError("this ir_datasets collection has no questions", where=spec)
        for query in dataset.queries_iter():
            yield spec, Question(query.query_id, query.default_text())

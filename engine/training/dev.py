"""Dev questions asked during training: their candidates reranked, and measured as every run is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.evaluation.measures import evaluate
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.questions import Question, read_questions
from engine.evaluation.rerank import CorpusPassages
from engine.evaluation.runs import Run, read_run
from engine.records import passage_input
from engine.training.examples import POSITIVE, read_groups
from engine.training.mining import first_stage_alone

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.records import FirstStage

__all__ = ["MEASURES", "DevQuestion", "DevSet", "dev_from_collection", "dev_from_groups", "dev_from_run"]

MEASURES = ("nDCG@10", "MRR@10")
"""The first one decides which checkpoint is the best."""

Scorer = Callable[[Sequence[tuple[str, str]]], NDArray[np.float32]]


class DevQuestion(NamedTuple):
    """A question, its candidates and what judges say of them.

    Attributes:
        question: its text.
        passages: texts of the candidates.
        grades: relevance of each, by the qrels.
        missed: grades of relevant passages that are no candidates, which no reranking finds.
    """

    question: str
    passages: tuple[str, ...]
    grades: tuple[int, ...]
    missed: tuple[int, ...] = ()


class DevSet:
    """Dev questions to rerank.

    Args:
        questions: at least one with a relevant passage.
        notices: one line each for what a person should know of them.

    Raises:
        TrainingError: none has one.
    """

    def __init__(self, questions: Iterable[DevQuestion], notices: Sequence[str] = ()) -> None:
        self.questions, self.notices = tuple(questions), tuple(notices)
        grades = {f"q{row}": dict(_graded(question)) for row, question in enumerate(self.questions)}
        if not any(grade > 0 for judged in grades.values() for grade in judged.values()):
            raise TrainingError("no dev question has a relevant passage", hint="do the qrels belong to the questions?")
        self._qrels = Qrels(grades, name="dev")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every question with each of its candidates."""
        return [(question.question, passage) for question in self.questions for passage in question.passages]

    def measure(self, score: Scorer) -> dict[str, float]:
        """Means of `MEASURES` over the questions when `score` orders the candidates; float32[n] of n pairs."""
        scores = np.asarray(score(self.pairs), np.float64)
        run, at = {}, 0
        for row, question in enumerate(self.questions):
            names = [f"c{place}" for place in range(len(question.passages))]
            run[f"q{row}"] = dict(zip(names, scores[at : at + len(names)].tolist(), strict=True))
            at += len(names)
        return evaluate(Run(run, name="dev"), self._qrels, MEASURES).means


def _graded(question: DevQuestion) -> Iterator[tuple[str, int]]:
    yield from ((f"c{place}", grade) for place, grade in enumerate(question.grades))
    yield from ((f"m{place}", grade) for place, grade in enumerate(question.missed))


def dev_from_groups(path: Path) -> DevSet:
    """Dev questions of a file of groups, as `fouille mine` writes them."""
    return DevSet(
        DevQuestion(group.question, group.passages, tuple(int(label > POSITIVE) for label in group.labels))
        for group in read_groups(path)
    )


def dev_from_run(questions: str, qrels: str, run: Path, corpus: str, depth: int) -> DevSet:
    """Dev questions with the first `depth` passages of a TREC run over a corpus.

    A question that the run does not rank, or a passage that the corpus does not have, counts as not found.

    Raises:
        EvaluationError: one of them cannot be read, or they do not belong together.
    """
    judged, ranked = read_qrels(qrels), read_run(run)
    asked = read_questions(questions, only=judged)
    names = {question.id: ranked[question.id].documents[:depth] for question in asked if question.id in ranked}
    wanted = {name for documents in names.values() for name in documents}
    texts = dict(CorpusPassages(corpus).inputs({name: row for row, name in enumerate(sorted(wanted))}))
    lost = (
        (len(asked) - len(names), "dev questions that the run does not rank"),
        (len(wanted) - len(texts), "passages of the run that the corpus does not have"),
    )
    notices = [f"{count:,} {what}: counted as not found" for count, what in lost if count]
    return DevSet((_judged(question, names.get(question.id, ()), texts, judged) for question in asked), notices)


def dev_from_collection(
    questions: str, qrels: str, collection: "Collection", first_stage: "FirstStage | None", depth: int
) -> DevSet:
    """Dev questions with the first `depth` documents of a collection's first stage, each by its best passage."""
    judged = read_qrels(qrels)
    asked = read_questions(questions, only=judged)
    results = collection.search_many([question.text for question in asked], first_stage_alone(first_stage, depth))
    rows = []
    for question, result in zip(asked, results, strict=True):
        texts = {hit.key: passage_input(hit.title, hit.text) for hit in result.hits}
        rows.append(_judged(question, list(texts), texts, judged))
    return DevSet(rows)


def _judged(question: Question, names: Sequence[str], texts: dict[str, str], qrels: Qrels) -> DevQuestion:
    there = [name for name in names if name in texts]
    grades = qrels[question.id]
    missed = tuple(grade for name, grade in grades.items() if name not in there and grade > 0)
    return DevQuestion(
        question.text,
        tuple(texts[name] for name in there),
        tuple(max(grades.get(name, 0), 0) for name in there),
        missed,
    )

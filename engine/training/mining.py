"""Hard negatives: passages that a first stage finds for a question and that nobody called relevant."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import InvalidOption
from engine.evaluation.qrels import Qrels
from engine.evaluation.questions import Question
from engine.records import FirstStage, Hit, Progress, SearchOptions, passage_input
from engine.training.examples import Group
from indexes.fusion import standardised

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.models import CrossEncoder

__all__ = ["MineReport", "Mining", "first_stage_alone", "mine"]


@dataclass(frozen=True, slots=True)
class Mining:
    """Which passages become negatives.

    Attributes:
        first, last: ranks of the first stage to take them from, from 1, both included.
        negatives: at most this many a question, half from the best quarter of those ranks, in their order.
        first_stage: None for the collection's own.
        max_score: leave out what the reranker scores above this, in [0, 1]: likely a relevant passage nobody judged.
        margin: leave out what the reranker scores above the best positive's logit less this.
        seed: of the drawing.
    """

    first: int = 1
    last: int = 100
    negatives: int = 15
    first_stage: FirstStage | None = None
    max_score: float | None = None
    margin: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise InvalidOption(f"ranks {self.first} to {self.last} hold nothing", where="--ranks")
        if self.negatives < 1:
            raise InvalidOption(f"{self.negatives} negatives are none", where="--negatives")
        if self.max_score is not None and not 0 <= self.max_score <= 1:
            raise InvalidOption(f"{self.max_score:g} is not in [0, 1]", where="--max-score")
        if self.margin is not None and not math.isfinite(self.margin):
            raise InvalidOption(f"{self.margin:g} is no number of logits", where="--margin")


@dataclass(slots=True)
class MineReport:
    """What a mining found.

    Attributes:
        questions: that became groups.
        negatives: in all.
        without_positives: questions left out because the qrels name no relevant document that the collection has.
        without_negatives: questions left out because nothing was left to learn from.
        copies: passages left out because a relevant one has the same text.
        dropped: passages left out because the reranker called them relevant.
    """

    questions: int = 0
    negatives: int = 0
    without_positives: int = 0
    without_negatives: int = 0
    copies: int = 0
    dropped: int = 0


def mine(
    collection: "Collection",
    questions: Sequence[Question],
    qrels: Qrels,
    mining: Mining,
    report: MineReport,
    *,
    reranker: "CrossEncoder | None" = None,
    progress: Progress | None = None,
) -> Iterator[Group]:
    """Groups of each question's relevant passages and mined negatives, one at a time.

    A group's scores are the first stage's, standardised over all that it found, so that a fused first stage can teach;
    a positive that it did not find has the least of them.

    Args:
        collection: where passages come from; its documents are the qrels' documents.
        questions: to mine for.
        qrels: their positives, grade 1 or more.
        mining: which passages to take.
        report: counted up as groups come.
        reranker: judges what is too good to be a negative, where `mining` asks for that.
        progress: called with ("questions", done, total).
    """
    random_ = random.Random(mining.seed)
    options = first_stage_alone(mining.first_stage, mining.last)
    results = collection.search_many([question.text for question in questions], options)
    for done, (question, result) in enumerate(zip(questions, results, strict=True), 1):
        if progress:
            progress("questions", done, len(questions))
        relevant = {name for name, grade in qrels.get(question.id, {}).items() if grade > 0}
        positives = _positives(collection, relevant, result.hits)
        if not positives:
            report.without_positives += 1
            continue
        z = standardised(np.array([hit.score for hit in result.hits], np.float64))
        of = {hit.key: float(score) for hit, score in zip(result.hits, z, strict=True)}
        others = [hit for hit in result.hits[mining.first - 1 :] if hit.key not in relevant]
        known = set(positives.values())
        found = [hit for hit in others if passage_input(hit.title, hit.text) not in known]
        report.copies += len(others) - len(found)
        if reranker is not None:
            kept = _drop_likely_positives(reranker, question.text, list(positives.values()), found, mining)
            report.dropped += len(found) - len(kept)
            found = kept
        drawn = _draw(found, mining.negatives, random_)
        if not drawn:
            report.without_negatives += 1
            continue
        report.questions += 1
        report.negatives += len(drawn)
        least = min(of.values(), default=0.0)
        texts = [*positives.values(), *(passage_input(hit.title, hit.text) for hit in drawn)]
        scores = [of.get(name, least) for name in (*positives, *(hit.key for hit in drawn))]
        yield Group(
            question.text,
            tuple(texts),
            (1.0,) * len(positives) + (0.0,) * len(drawn),
            tuple(round(score, 4) for score in scores),
        )


def first_stage_alone(stage: FirstStage | None, depth: int) -> SearchOptions:
    """How to ask for the first `depth` documents of a first stage, each by its best passage."""
    return SearchOptions(k=depth, candidates=depth, first_stage=stage, rerank=False, per_document=1, highlight=False)


def _positives(collection: "Collection", relevant: set[str], hits: Sequence[Hit]) -> dict[str, str]:
    """Texts of the relevant documents that the collection has and that hold any text.

    Of a document that was split that is the passage which the first stage puts highest: a model reads no more than the
    beginning of a long text. Of one that it did not find, the whole.
    """
    best = {hit.key: hit for hit in hits}
    documents = {name: best.get(name) or collection.document(name) for name in sorted(relevant)}
    texts = {name: passage_input(one.title, one.text) for name, one in documents.items() if one is not None}
    return {name: text for name, text in texts.items() if text.strip()}


def _drop_likely_positives(
    reranker: "CrossEncoder", question: str, positives: list[str], found: list[Hit], mining: Mining
) -> list[Hit]:
    """The passages that the reranker does not call relevant."""
    texts = [passage_input(hit.title, hit.text) for hit in found]
    logits = reranker.score(question, [*positives, *texts], activation="none")
    most = np.inf
    if mining.margin is not None:
        most = float(logits[: len(positives)].max()) - mining.margin
    if mining.max_score is not None:
        with np.errstate(divide="ignore"):
            most = min(most, float(np.log(mining.max_score) - np.log1p(-mining.max_score)))
    return [hit for hit, logit in zip(found, logits[len(positives) :], strict=True) if logit <= most]


def _draw(found: list[Hit], count: int, random_: random.Random) -> list[Hit]:
    """Half from the best quarter, half from the rest, in the order of the first stage."""
    if len(found) <= count:
        return found
    near = max(len(found) // 4, (count + 1) // 2)
    hard = random_.sample(range(near), (count + 1) // 2)
    easy = random_.sample(range(near, len(found)), min(count - len(hard), len(found) - near))
    return [found[row] for row in sorted([*hard, *easy])]

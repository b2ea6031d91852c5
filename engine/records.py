"""The small frozen records that travel between rooms."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "AddReport",
    "Document",
    "FirstStage",
    "Hit",
    "LongPassages",
    "Passage",
    "Precision",
    "Progress",
    "Ragged",
    "Ranking",
    "Rejection",
    "SearchOptions",
    "SearchResult",
    "Span",
    "document_scores",
    "passage_input",
]

FirstStage = Literal["bm25", "dense", "hybrid"]
LongPassages = Literal["truncate", "maxp"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Span = tuple[int, int]
Progress = Callable[[str, int, int | None], None]
"""Called with a part of the work, how much of it is done, and how much there is (None: not known yet)."""


def passage_input(title: str, text: str) -> str:
    """What both stages read of a passage: its title, then its text."""
    return f"{title} {text}" if title else text


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a reader hands it over.

    Attributes:
        key: names the document in its collection; never a path to open.
        text: NFC text; passages are slices of it.
        title: shown, and read by both stages ahead of each passage.
        metadata: JSON values by name; `--where` filters on them.
        pages: offset in `text` where each page begins, page 1 first; empty where pages mean nothing.
        has_lines: whether the lines of `text` are those of the file, so that a passage can name its line.
    """

    key: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pages: tuple[int, ...] = ()
    has_lines: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a file or a record was not indexed. `line` counts from 1, None where lines mean nothing."""

    where: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}:{self.line}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A slice of a document: `text == document.text[start:end]`. `id` is the same integer in every index.

    `page` and `line` are where it begins, from 1, `last_page` where it ends; None where the file has no such.
    """

    id: int
    key: str
    title: str
    text: str
    start: int
    end: int
    page: int | None
    line: int | None
    metadata: Mapping[str, Any]
    last_page: int | None = None

    @property
    def input(self) -> str:
        """What both stages read of it."""
        return passage_input(self.title, self.text)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Passages by descending score, ties by ascending id.

    Attributes:
        ids: int64[n], passage ids.
        scores: float32[n], higher is better.
    """

    ids: "NDArray[np.int64]"
    scores: "NDArray[np.float32]"


class Ragged(NamedTuple):
    """Rows of unequal length in one array: row i is `values[offsets[i]:offsets[i + 1]]`.

    Attributes:
        values: one-dimensional, the rows laid end to end.
        offsets: int64[n + 1], ascending from 0 to `len(values)`.
    """

    values: "NDArray[Any]"
    offsets: "NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. None means what the collection remembers, then fouille's default.

    Attributes:
        k: hits to return.
        candidates: passages that the first stage hands to the reranker, counted after fusion; what is not remembered is
            what the reranker's model recommends, else 100.
        first_stage: bm25, dense or hybrid.
        rerank: whether a cross-encoder orders the candidates.
        reranker: its name or folder.
        interpolate: weight W of the standardised first-stage score in `logit + W * z`.
        k1, b: BM25's parameters (Robertson and Zaragoza 2009, equation 3.15).
        keys: a glob over document keys (`--in`).
        where: metadata that hits must have, compared as text; of several values under one name, all.
        per_document: passages of one document at most.
        long_passages: `truncate` as the tokenizer does, or `maxp`: score windows, keep the best.
        highlight: whether hits carry highlights; a batch run, which shows none, is many times faster without.
    """

    k: int = 10
    candidates: int | None = None
    first_stage: FirstStage | None = None
    rerank: bool | None = None
    reranker: str | None = None
    interpolate: float | None = None
    k1: float | None = None
    b: float | None = None
    keys: str | None = None
    where: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    per_document: int | None = None
    long_passages: LongPassages | None = None
    highlight: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage of the answer, and where its place came from.

    Ranks start at 1 and are None on the side that did not find the passage. `score` is what the hits are ordered by, as
    it is shown: the sigmoid of the logit when a cross-encoder alone ordered them, `logit + W * z` when interpolated,
    the first stage's score otherwise. `highlights` are spans of `text`.
    """

    key: str
    passage_id: int
    text: str
    title: str
    start: int
    end: int
    page: int | None
    line: int | None
    metadata: Mapping[str, Any]
    rank: int
    score: float
    highlights: tuple[Span, ...] = ()
    bm25_rank: int | None = None
    bm25_score: float | None = None
    dense_rank: int | None = None
    dense_score: float | None = None
    fused_score: float | None = None
    first_stage_z: float | None = None
    rerank_logit: float | None = None
    rerank_score: float | None = None
    truncated: bool = False
    last_page: int | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search gives back.

    Attributes:
        question: as it was asked.
        hits: best first, at most k.
        timings: seconds by part: first_stage (of it bm25, encode, dense), tokens, rerank, passages, total.
        notices: one line each for what a person should know (no reranker at hand, an index that lags).
        candidates: how many passages the first stage handed on.
        truncated: how many of them the reranker read only in part.
        first_stage: what was used, after defaults and fall-backs.
        reranker: name of the cross-encoder used, None when the first stage alone answered.
        precision: in which the scores of the hits were computed, None without a cross-encoder.
        draft_precision: in which all candidates were scored first, None when there was no draft.
        rescored: how many of them were then scored again.
    """

    question: str
    hits: tuple[Hit, ...]
    timings: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    candidates: int = 0
    truncated: int = 0
    first_stage: FirstStage = "bm25"
    reranker: str | None = None
    precision: str | None = None
    draft_precision: str | None = None
    rescored: int = 0


def document_scores(result: SearchResult) -> tuple[list[str], list[float]]:
    """Keys and scores of the hits, best first, as a run holds them: logits, where sigmoids would tie."""
    hits = result.hits
    logits = [hit.rerank_logit for hit in hits if hit.rerank_logit is not None and hit.score == hit.rerank_score]
    return [hit.key for hit in hits], logits if len(logits) == len(hits) else [hit.score for hit in hits]


@dataclass(slots=True)
class AddReport:
    """What one indexing run did.

    Attributes:
        added, updated, unchanged, removed: documents.
        rejected: files and records that were not indexed; `rejections` holds the first reasons.
        passages: in the collection afterwards.
        seconds: by part: reading, bm25, encoding, tokens.
        skipped: files of kinds that are not read, by extension.
        notices: one line each for what a person should know.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: int = 0
    passages: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)

    KEPT_REJECTIONS = 1000

    def reject(self, rejection: Rejection) -> None:
        """Count a rejection, and keep it if it is among the first."""
        self.rejected += 1
        if len(self.rejections) < self.KEPT_REJECTIONS:
            self.rejections.append(rejection)

    def include(self, other: "AddReport") -> None:
        """Add another report's counts to these."""
        for name in ("added", "updated", "unchanged", "removed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rejection in other.rejections:
            self.reject(rejection)
        self.rejected += other.rejected - len(other.rejections)

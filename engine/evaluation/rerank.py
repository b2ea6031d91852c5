"""Reranking any system's run over any passages: one stream of full batches across questions, in flat memory."""

import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import EvaluationError, StorageError
from engine.evaluation.batch import collection_identity, questions_fingerprint
from engine.evaluation.corpora import read_corpus
from engine.evaluation.provenance import Provenance, file_fingerprint
from engine.evaluation.questions import Question
from engine.evaluation.resumable import ResumableRun
from engine.evaluation.runs import Ranked, Run
from engine.ragged import offsets_of, ranges
from engine.records import LongPassages, Progress, Ragged, passage_input
from engine.timing import Pace
from indexes.fusion import standardised

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.models import CrossEncoder

__all__ = [
    "CollectionPassages",
    "CorpusPassages",
    "Passages",
    "RerankReport",
    "Reranked",
    "TokenRows",
    "iter_reranked",
    "rerank",
    "score_candidates",
]

_PASSAGES_AT_ONCE = 4096  # tokenised at a time
_FEWEST_PAIRS, _MOST_PAIRS = 64, 65_536  # scored at a time


class Passages(Protocol):
    """Where a run's passages are read."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What provenance says of it."""

    def inputs(self, wanted: Mapping[str, int]) -> Iterable[tuple[str, str]]:
        """(id, title and text) of those passages wanted that it has, in any order, each once."""


@dataclass(frozen=True, slots=True)
class CorpusPassages:
    """Passages of a BEIR folder, a JSONL or TSV file or `irds:ID`, read in one pass."""

    source: str

    @property
    def identity(self) -> Mapping[str, Any]:
        """The corpus and its content."""
        return {"corpus": Path(self.source).name, "sha256": file_fingerprint(self.source, "corpus.jsonl*")}

    def inputs(self, wanted: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """(id, title and text) of those passages wanted that the corpus has.

        Raises:
            EvaluationError: the corpus cannot be read, or has a wanted passage twice.
        """
        seen = bytearray(len(wanted))
        for passage in read_corpus(self.source):
            index = wanted.get(passage.id)
            if index is None:
                continue
            if seen[index]:
                raise EvaluationError(f"passage {passage.id!r} stands twice", where=self.source)
            seen[index] = 1
            yield passage.id, passage.input


@dataclass(frozen=True, slots=True)
class CollectionPassages:
    """Whole documents of a collection, by key."""

    collection: "Collection"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The collection and its state."""
        return collection_identity(self.collection)

    def inputs(self, wanted: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """(key, title and text) of those documents wanted that the collection has."""
        for key in wanted:
            document = self.collection.document(key)
            if document is not None:
                yield key, passage_input(document.title, document.text)


class Reranked(NamedTuple):
    """One question's candidates with their new scores.

    Attributes:
        question: its id.
        documents: as the run had them, not yet in the new order.
        scores: float32[n], logit + W * z.
        truncated: bool[n], whether part of the passage was not read.
    """

    question: str
    documents: tuple[str, ...]
    scores: NDArray[np.float32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RerankReport:
    """What a reranking did.

    Attributes:
        questions, pairs, passages: scored in this run; each passage was tokenised once.
        truncated: pairs whose passage was read only in part.
        resumed: questions found answered by an interrupted run.
        seconds: wall time of tokenising and scoring.
        notices: one line each for what a person should know, and what run was replaced.
    """

    questions: int
    pairs: int
    passages: int
    truncated: int
    resumed: int
    seconds: float
    notices: tuple[str, ...] = field(default=())

    @property
    def pairs_per_second(self) -> float:
        """Pairs scored in a second, tokenising included."""
        return self.pairs / self.seconds if self.seconds else 0.0


def rerank(
    run: Run,
    questions: Sequence[Question],
    passages: Passages,
    reranker: "CrossEncoder",
    output: str | Path,
    *,
    only: Container[str] | None = None,
    depth: int | None = None,
    interpolate: float | None = None,
    long_passages: LongPassages = "truncate",
    tag: str = "fouille",
    restart: bool = False,
    progress: Progress | None = None,
) -> RerankReport:
    """Reranks a run into a new run file, with its provenance; an interrupted one goes on where it stopped.

    It goes on only with the same run, questions, passages, model and options.

    Args:
        run: candidates and their first scores, from any system.
        questions: texts for the run's questions.
        passages: texts for the run's documents.
        reranker: the cross-encoder.
        output: the TREC run to write.
        only: rerank these questions of the run alone, say those of some qrels; the others are left out.
        depth: candidates of each question to score; those below are left out. None: all.
        interpolate: W in `logit + W * z`, z the first score standardised over the candidates; None: the model's own.
        long_passages: `truncate`, or `maxp`: score windows, keep the best.
        tag: last column of the run.
        restart: drop an interrupted run.
        progress: called with ("tokens" or "pairs", done, total).

    Raises:
        EvaluationError: a question of the run has no text, a passage of it is not there, none of its questions is among
            `only`, or an interrupted run made with other options is in the way.
        StorageError: the system refused to write.
    """
    asked = [question for question in run if only is None or question in only]
    if not asked and len(run):
        raise EvaluationError(
            "none of the run's questions is judged", where=run.name, hint="do the qrels belong to it?"
        )
    # What the run has no answer to is not reranked, and makes two rerankings no different.
    answered = [question for question in questions if question.id in run]
    inputs = {"run": run.fingerprint, "questions": questions_fingerprint(answered)}
    weight = _weight(reranker, interpolate)
    how: dict[str, Any] = {"depth": depth, "interpolate": weight, "long_passages": long_passages}
    options = {"precision": reranker.precision, **how, "run": run.name}
    model = {"name": Path(reranker.name).name, "hash": reranker.hash, "max_length": reranker.max_length}
    decisive = {**options, "reranker": model, "inputs": inputs, "passages": dict(passages.identity)}
    started = time.monotonic()
    with ResumableRun(output, decisive, tag=tag, restart=restart) as writer:
        left = [question for question in asked if question not in writer.done]
        count = _Count(progress)
        for answer in iter_reranked(run, questions, passages, reranker, only=left, progress=count.watch, **how):
            writer.add(answer.question, answer.documents, answer.scores)
            count.add(answer)
        seconds = time.monotonic() - started
        shaped = {**options, "max_length": reranker.max_length}
        if not writer.resumed:  # what was truncated before the interruption was not kept
            shaped["truncated"] = count.truncated
        models = {Path(reranker.name).name: reranker.hash}
        writer.finish(Provenance("rerank", passages.identity, models, shaped, inputs, round(seconds, 3)))
    notices = (*_notices(run, questions), *writer.replaced)
    return RerankReport(len(left), count.pairs, count.tokenised, count.truncated, writer.resumed, seconds, notices)


@dataclass(slots=True)
class _Count:
    """What was tokenised, scored and truncated so far; passes progress on."""

    progress: Progress | None
    tokenised: int = 0
    pairs: int = 0
    truncated: int = 0

    def watch(self, part: str, done: int, total: int | None) -> None:
        if part == "tokens":
            self.tokenised = done
        if self.progress:
            self.progress(part, done, total)

    def add(self, answer: Reranked) -> None:
        self.pairs += len(answer.documents)
        self.truncated += int(answer.truncated.sum())


def _weight(reranker: "CrossEncoder", interpolate: float | None) -> float:
    return float(interpolate if interpolate is not None else reranker.recommended_interpolate() or 0.0)


def _notices(run: Run, questions: Sequence[Question]) -> tuple[str, ...]:
    without = sum(question.id not in run for question in questions)
    return (f"questions without a candidate in {run.name}: {without:,} of {len(questions):,}",) if without else ()


def iter_reranked(
    run: Run,
    questions: Sequence[Question],
    passages: Passages,
    reranker: "CrossEncoder",
    *,
    only: Sequence[str] | None = None,
    depth: int | None = None,
    interpolate: float | None = None,
    long_passages: LongPassages = "truncate",
    progress: Progress | None = None,
) -> Iterator[Reranked]:
    """What `rerank` writes, question by question; its arguments mean the same.

    Passages' tokens wait in a temporary file and pairs are scored a window at a time, so memory does not grow with the
    number of pairs. `only` names the questions of the run to score, in their order; None: all of them.
    """
    wanted_questions = list(run) if only is None else list(only)
    texts = _texts(wanted_questions, questions, run.name)
    row_of: dict[str, int] = {}
    total = 0
    for question in wanted_questions:
        candidates = run[question].documents[:depth]
        total += len(candidates)
        for document in candidates:
            row_of.setdefault(document, len(row_of))
    weight = _weight(reranker, interpolate)
    with ExitStack() as kept:
        with _room():
            spool = kept.enter_context(tempfile.TemporaryFile())
        tokens = _tokenised(row_of, passages, reranker, spool, progress)
        done = 0
        if progress:
            progress("pairs", done, total)
        pace = Pace(_FEWEST_PAIRS, _FEWEST_PAIRS, _MOST_PAIRS)
        for window in _windows(wanted_questions, run, depth, pace):
            asked = [texts[question] for question, _ in window]
            rows = [np.array([row_of[document] for document in ranked.documents], np.int64) for _, ranked in window]
            scored = score_candidates(reranker, asked, rows, tokens.rows, long_passages)
            for (question, ranked), (logits, truncated) in zip(window, scored, strict=True):
                scores = logits + np.float32(weight) * standardised(ranked.scores) if weight else logits
                yield Reranked(question, ranked.documents, scores.astype(np.float32, copy=False), truncated)
            pairs = sum(map(len, rows))
            done += pairs
            pace.done(pairs)
            if progress:
                progress("pairs", done, total)


def score_candidates(
    reranker: "CrossEncoder",
    questions: Sequence[str],
    candidates: Sequence[NDArray[np.int64]],
    tokens_of: Callable[[NDArray[np.int64]], Ragged],
    long_passages: LongPassages,
) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Each question's candidates scored, the tokens of a passage read once however many questions have it.

    Args:
        reranker: the cross-encoder.
        questions: texts.
        candidates: numbers of passages, int64[n], by question.
        tokens_of: tokens of passages by their numbers, which come ascending.
        long_passages: as in `rerank`.

    Returns:
        Logits, float32[n], and whether part of the passage was not read, bool[n], by question.
    """
    sizes = [len(own) for own in candidates]
    passages, places = np.unique(np.concatenate(candidates), return_inverse=True)
    pairs = np.stack([np.repeat(np.arange(len(sizes)), sizes), places], axis=1).astype(np.int32)
    scores = reranker.score_tokens(questions, tokens_of(passages), pairs, long_passages=long_passages)
    cuts = np.cumsum(sizes)[:-1]
    return list(zip(np.split(scores.logits, cuts), np.split(scores.truncated, cuts), strict=True))


def _texts(wanted: Sequence[str], questions: Sequence[Question], run: str) -> dict[str, str]:
    texts = dict(questions)
    missing = [question for question in wanted if question not in texts]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of the run's questions have no text, such as {missing[0]!r}",
            where=run,
            hint="are these the questions of the run?",
        )
    return texts


def _windows(questions: Sequence[str], run: Run, depth: int | None, pace: Pace) -> Iterator[list[tuple[str, Ranked]]]:
    """Windows of whole questions with their candidates, in order, of about as many pairs as the pace says."""
    window: list[tuple[str, Ranked]] = []
    pairs = 0
    for question in questions:
        documents, scores = run[question]
        window.append((question, Ranked(documents[:depth], scores[:depth])))
        pairs += len(window[-1][1].documents)
        if pairs >= pace.size:
            pace.begin()
            yield window
            window, pairs = [], 0
    if window:
        yield window


class TokenRows(NamedTuple):
    """Tokens in memory or mapped from a file: row i is `values[starts[i]:starts[i] + lengths[i]]`."""

    values: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def rows(self, wanted: NDArray[np.int64]) -> Ragged:
        """Some of the rows, read into memory."""
        lengths = self.lengths[wanted]
        return Ragged(np.asarray(self.values[ranges(self.starts[wanted], lengths)]), offsets_of(lengths))


@contextmanager
def _room() -> Iterator[None]:
    """StorageError where the system's folder for temporary files has no room for one."""
    try:
        yield
    except OSError as error:
        hint = "name a folder with more room in TMPDIR"
        raise StorageError(error.strerror or str(error), where=tempfile.gettempdir(), hint=hint) from error


def _tokenised(
    row_of: Mapping[str, int], passages: Passages, reranker: "CrossEncoder", spool: IO[bytes], progress: Progress | None
) -> TokenRows:
    """Tokens of every passage wanted, row by row as `row_of` says, mapped from a temporary file.

    Raises:
        EvaluationError: a passage is not there.
    """
    starts = np.full(len(row_of), -1, np.int64)
    lengths = np.zeros(len(row_of), np.int64)
    dtype: np.dtype[Any] = np.dtype(np.uint16)
    written = done = 0
    texts = iter(passages.inputs(row_of))
    while batch := list(islice(texts, _PASSAGES_AT_ONCE)):
        tokens = reranker.tokenize_passages([text for _, text in batch])
        rows = np.array([row_of[name] for name, _ in batch], np.int64)
        starts[rows] = written + tokens.offsets[:-1]
        lengths[rows] = np.diff(tokens.offsets)
        with _room():
            spool.write(tokens.values.tobytes())
        written += len(tokens.values)
        dtype = tokens.values.dtype
        done += len(batch)
        if progress:
            progress("tokens", done, len(row_of))
    if done < len(row_of):
        missing = [name for name, row in row_of.items() if starts[row] < 0]
        raise EvaluationError(
            f"{len(missing)} of the run's {len(row_of)} passages are not there, such as {missing[0]!r}",
            where=passages.identity.get("corpus") or passages.identity.get("name"),
            hint="is this the corpus that the run was made on?",
        )
    with _room():
        spool.flush()
        values: NDArray[Any] = np.memmap(spool, dtype=dtype, mode="r") if written else np.empty(0, dtype)
    return TokenRows(values, starts, lengths)

"""Choosing a collection's search values on dev questions: a grid a stage, judged by cross-validation.

Stages follow one another, each with what the earlier ones chose: BM25's k1 and b, the fusion's weight, then the number
of candidates with the interpolation's weight. What a stage does not change is computed once: BM25 ranks once a setting,
vectors and logits are scored once and combined anew for every weight.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine import generation
from engine.errors import EvaluationError, InvalidOption
from engine.evaluation.measures import evaluate, parse_measures
from engine.evaluation.qrels import Qrels
from engine.evaluation.questions import Question
from engine.evaluation.reports import tuning_trials
from engine.evaluation.rerank import TokenRows, score_candidates
from engine.evaluation.runs import Run
from engine.evaluation.significance import randomisation_test
from engine.ragged import offsets_of
from engine.reader import Reader
from engine.records import Progress, Ragged, Ranking, SearchOptions
from engine.search import clean, plan, tokens_of
from indexes import fusion
from indexes.exact import best_of

if TYPE_CHECKING:
    import pandas

    from engine.collection import Collection

__all__ = ["Grid", "Stage", "Trial", "Tuning", "tune"]

_PASSAGES_AT_ONCE = 4096  # read at a time
_DEEPEST = 1000  # documents that a measure without a cutoff is taken over, as runs are by custom

Setting = dict[str, float]


@dataclass(frozen=True, slots=True)
class Grid:
    """Values to try; a stage whose tuples are empty is left out."""

    k1: tuple[float, ...] = (0.4, 0.6, 0.9, 1.2, 1.6, 2.0)
    b: tuple[float, ...] = (0.1, 0.25, 0.4, 0.55, 0.75, 0.9)
    fusion_weight: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)
    candidates: tuple[int, ...] = (20, 50, 100)
    interpolate: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of a stage and its mean over all dev questions."""

    setting: Setting
    mean: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage tuned.

    Attributes:
        name: bm25, fusion or rerank.
        trials: every setting, in the grid's order, the one in use first.
        chosen: the setting with the best mean; the one in use where held-out questions do not confirm it.
        before: mean of the setting in use.
        held_out: mean over questions that had no part in this choice: each fold answered with what the others choose.
            What an earlier stage handed on, all of them chose.
        p: of the randomisation test between `held_out` and `before`.
    """

    name: str
    trials: tuple[Trial, ...] = field(repr=False)
    chosen: Setting
    before: float
    held_out: float
    p: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried and chosen, by `measure`, in `folds` folds over `questions` questions."""

    measure: str
    folds: int
    questions: int
    stages: tuple[Stage, ...]

    @property
    def chosen(self) -> dict[str, float]:
        """Every value chosen, as `Collection.remember` takes them."""
        return {name: value for stage in self.stages for name, value in stage.chosen.items()}

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame with a row for each trial."""
        import pandas as pd

        return pd.DataFrame(tuning_trials(self))


def tune(
    collection: "Collection",
    questions: Sequence[Question],
    qrels: Qrels,
    *,
    grid: Grid | None = None,
    options: SearchOptions | None = None,
    measure: str = "nDCG@10",
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuning:
    """Tries a grid on dev questions; nothing is stored (`collection.remember(**tuning.chosen)` does that).

    Args:
        collection: what to search.
        questions: dev questions, never those of a test.
        qrels: their judgements.
        grid: values to try.
        options: which first stage and reranker; the collection's own otherwise.
        measure: what to maximise.
        folds: of the cross-validation.
        seed: of the folds and of the randomisation test.
        progress: called with (stage, done, total).

    Raises:
        EvaluationError: fewer than two judged questions a fold.
        InvalidOption: fewer than two folds.
    """
    if folds < 2:
        raise InvalidOption("at least 2", where="--folds")
    judged = [question for question in questions if question.id in qrels]
    if len(judged) < 2 * folds:
        raise EvaluationError(f"{len(judged)} judged questions are too few for {folds} folds", where=qrels.name)
    fold_of = np.random.default_rng(seed).permutation(len(judged)) % folds
    own = Qrels({question.id: qrels[question.id] for question in judged}, name=qrels.name)
    options = options or SearchOptions()

    def judge(name: str, settings: Sequence[Setting], values: NDArray[np.float64]) -> Stage:
        return _judge(name, settings, values, fold_of, seed)

    with closing(Reader(generation.current(collection.path), collection.shelf)) as reader:
        # All that the collection is asked is asked of one moment; pairs, which may take hours, are scored from memory.
        with reader.steady(options.first_stage):
            bench = _Bench(reader, judged, own, measure, options, grid or Grid(), progress)
            stages, first = bench.first_stage(judge)
            candidates = bench.read(first)
        if candidates is not None:
            stages.append(bench.rerank(first, candidates, judge))
    return Tuning(measure, folds, len(judged), tuple(stages))


def _judge(
    name: str, settings: Sequence[Setting], values: NDArray[np.float64], fold_of: NDArray[np.int64], seed: int
) -> Stage:
    """Chooses among settings by their values, float64[settings, questions], the setting in use being the first."""
    held_out = np.empty(values.shape[1])
    for fold in range(int(fold_of.max()) + 1):
        inside = fold_of == fold
        held_out[inside] = values[int(values[:, ~inside].mean(axis=1).argmax()), inside]
    means = values.mean(axis=1)
    confirmed = held_out.mean() > means[0]
    return Stage(
        name=name,
        trials=tuple(Trial(dict(setting), float(mean)) for setting, mean in zip(settings, means, strict=True)),
        chosen=dict(settings[int(means.argmax()) if confirmed else 0]),
        before=float(means[0]),
        held_out=float(held_out.mean()),
        p=float(randomisation_test((held_out - values[0])[:, None], permutations=10_000, seed=seed)[0]),
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Tokens of all passages to rerank: row i belongs to the i-th of `ids`, int64[n], ascending."""

    ids: NDArray[np.int64]
    tokens: TokenRows

    def of(self, ids: NDArray[np.int64]) -> Ragged:
        return self.tokens.rows(np.searchsorted(self.ids, ids))


First = Callable[[int], list[Ranking]]
"""The first stage's rankings of all questions, to a depth."""
Judge = Callable[[str, Sequence[Setting], NDArray[np.float64]], Stage]


class _Bench:
    """Scores of every passage that a setting can bring up, computed once, and the stages that combine them."""

    def __init__(
        self,
        reader: Reader,
        questions: Sequence[Question],
        qrels: Qrels,
        measure: str,
        options: SearchOptions,
        grid: Grid,
        progress: Progress | None,
    ) -> None:
        self.reader, self.questions, self.qrels = reader, questions, qrels
        self.measure, self.grid, self.progress = measure, grid, progress
        self.plan = plan(reader, options)
        self.texts = [clean(question.text) for question in questions]
        self.candidates = sorted({*grid.candidates, self.plan.candidates})
        seen = int(parse_measures([measure])[measure].params.get("cutoff") or _DEEPEST)
        self.depth = max(self.candidates[-1], seen)
        # Of each side a search fuses as many as it has candidates; one that is not reranked, as many as are to be read.
        self.fused = self.plan.candidates if self.plan.reranker is not None else max(self.plan.candidates, seen)
        self.counted = _counted(measure)
        self.keys: dict[int, str] = {}

    def first_stage(self, judge: Judge) -> tuple[list[Stage], First]:
        """BM25's stage and the fusion's, those that apply, and the rankings by what they chose, to any depth."""
        stages: list[Stage] = []
        first: list[Ranking] = []
        dense = self._dense() if self.plan.encoder is not None else None
        if self.plan.first_stage != "dense":
            settings = self._bm25_settings()
            stages.append(judge("bm25", settings, self._each("k1 and b", settings, self._bm25)))
            first = self._bm25(stages[-1].chosen)
        if stages and dense is not None:
            fuse = self._fusion(first, *dense)
            in_use = self.plan.fusion_weight
            weights = [in_use, *(weight for weight in self.grid.fusion_weight if weight != in_use)]
            settings = [{"fusion_weight": weight} for weight in weights]
            stages.append(judge("fusion", settings, self._each("fusion", settings, lambda one: fuse(one, self.fused))))
            chosen = stages[-1].chosen
            return stages, cache(lambda depth: fuse(chosen, depth))
        if dense is not None:
            first = dense[0]
        return stages, lambda depth: [_cut(ranking, depth) for ranking in first]

    def read(self, first: First) -> _Candidates | None:
        """All that reranking asks of the collection; None without a reranker."""
        if self.plan.reranker is None:
            return None
        ids = np.unique(np.concatenate(self._pools(first)))
        self._learn_keys(ids.tolist())
        parts = []
        for start in range(0, len(ids), _PASSAGES_AT_ONCE):
            parts.append(tokens_of(self.reader, self.plan.reranker, ids[start : start + _PASSAGES_AT_ONCE]))
            self._tell("tokens", min(start + _PASSAGES_AT_ONCE, len(ids)), len(ids))
        lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
        values = np.concatenate([part.values for part in parts] or [np.empty(0, np.uint16)])
        return _Candidates(ids, TokenRows(values, offsets_of(lengths)[:-1], lengths))

    def _pools(self, first: First) -> list[NDArray[np.int64]]:
        """What the reranker reads of each question under any setting, ids in ascending order."""
        depths = [first(depth) for depth in self.candidates]
        return [np.unique(np.concatenate([ranking.ids for ranking in own])) for own in zip(*depths, strict=True)]

    def rerank(self, first: First, candidates: _Candidates, judge: Judge) -> Stage:
        """The stage of the reranker, over what the first stage ranked."""
        settings = self._rerank_settings()
        return judge("rerank", settings, self._each("settings", settings, self._rerank(first, candidates)))

    def _each(
        self, part: str, settings: Sequence[Setting], rank: Callable[[Setting], list[Ranking]]
    ) -> NDArray[np.float64]:
        """The measure under each setting, float64[settings, questions]; rankings are let go of."""
        values = []
        for setting in settings:
            values.append(self._values(rank(setting)))
            self._tell(part, len(values), len(settings))
        return np.array(values)

    def _bm25_settings(self) -> list[Setting]:
        in_use: Setting = {}
        if self.plan.k1 is not None and self.plan.b is not None:
            in_use = {"k1": self.plan.k1, "b": self.plan.b}
        grid: list[Setting] = [{"k1": k1, "b": b} for k1, b in product(self.grid.k1, self.grid.b)]
        return [in_use, *(setting for setting in grid if setting != in_use)]

    def _bm25(self, setting: Setting) -> list[Ranking]:
        index = self.reader.bm25
        if index is None:
            raise EvaluationError("the collection has no BM25 index yet")
        k1, b = setting.get("k1"), setting.get("b")
        return index.search_many(self.texts, self.depth, k1=k1, b=b, ids=self.plan.only, below=self.plan.below)

    def _dense(self) -> tuple[list[Ranking], NDArray[np.float32]]:
        if self.plan.encoder is None or self.reader.dense is None:
            raise EvaluationError("the collection has no vectors")
        vectors = self.plan.encoder.encode_queries(self.texts)
        return self.reader.dense.search(vectors, self.depth, ids=self.plan.only, below=self.plan.below), vectors

    def _fusion(
        self, bm25: Sequence[Ranking], dense: Sequence[Ranking], vectors: NDArray[np.float32]
    ) -> Callable[[Setting, int], list[Ranking]]:
        index = self.reader.dense
        if index is None:
            raise EvaluationError("the collection has no vectors")
        # Exact dense scores of what BM25 alone found, once for all weights.
        lacking = [np.setdiff1d(lexical.ids, near.ids) for lexical, near in zip(bm25, dense, strict=True)]
        exact = [
            dict(zip(near.ids.tolist(), near.scores.tolist(), strict=True))
            | dict(zip(ids.tolist(), index.scores(vector, ids).tolist(), strict=True))
            for ids, near, vector in zip(lacking, dense, vectors, strict=True)
        ]

        def fuse(setting: Setting, depth: int) -> list[Ranking]:
            weight = setting["fusion_weight"]
            return [
                _cut(fusion.convex(_cut(lexical, depth), _cut(near, depth), weight=weight, dense_at=_at(known)), depth)
                for lexical, near, known in zip(bm25, dense, exact, strict=True)
            ]

        return fuse

    def _rerank_settings(self) -> list[Setting]:
        in_use: Setting = {"candidates": self.plan.candidates, "interpolate": self.plan.interpolate}
        grid: list[Setting] = [
            {"candidates": candidates, "interpolate": weight}
            for candidates, weight in product(self.grid.candidates, self.grid.interpolate)
        ]
        return [in_use, *(setting for setting in grid if setting != in_use)]

    def _rerank(self, first: First, candidates: _Candidates) -> Callable[[Setting], list[Ranking]]:
        pools = self._pools(first)
        logits = self._logits(pools, candidates)

        def order(setting: Setting) -> list[Ranking]:
            depth, weight = int(setting["candidates"]), np.float32(setting["interpolate"])
            reranked = []
            for ranking, pool, scores in zip(first(depth), pools, logits, strict=True):
                own = scores[np.searchsorted(pool, ranking.ids)]
                reranked.append(best_of(ranking.ids, own + weight * fusion.standardised(ranking.scores), depth))
            return reranked

        return order

    def _logits(
        self, pools: Sequence[NDArray[np.int64]], candidates: _Candidates, window: int = 4
    ) -> list[NDArray[np.float32]]:
        reranker = self.plan.reranker
        if reranker is None:
            raise EvaluationError("no reranker at hand")
        logits: list[NDArray[np.float32]] = []
        self._tell("rerank", 0, len(pools))
        for start in range(0, len(pools), window):
            texts = self.texts[start : start + window]
            ids = pools[start : start + window]
            scored = score_candidates(reranker, texts, ids, candidates.of, self.plan.long_passages)
            logits += [own for own, _ in scored]
            self._tell("rerank", len(logits), len(pools))
        return logits

    def _values(self, rankings: Sequence[Ranking]) -> NDArray[np.float64]:
        """The measure of each question, documents ranked by their best passage: float64[questions]."""
        self._learn_keys(id_ for ranking in rankings for id_ in ranking.ids.tolist())
        scored: dict[str, dict[str, float]] = {}
        for question, ranking in zip(self.questions, rankings, strict=True):
            best: dict[str, float] = {}
            for id_, score in zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True):
                best.setdefault(self.keys[id_], score)
                if len(best) == self.counted:
                    break
            scored[question.id] = best
        evaluation = evaluate(Run(scored, name="trial"), self.qrels, [self.measure])
        row = {question: place for place, question in enumerate(evaluation.questions)}
        return evaluation.scores[self.measure][[row[question.id] for question in self.questions]]

    def _learn_keys(self, ids: Iterable[int]) -> None:
        if unknown := set(ids) - self.keys.keys():
            for id_, passage in self.reader.catalog.passages(unknown).items():
                self.keys[id_] = passage.key

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(stage, done, total)


def _counted(measure: str) -> int | None:
    """Documents of a ranking that the measure can see, and as many again for ties at its cutoff; None: all."""
    params = parse_measures([measure])[measure].params
    if params.get("cutoff") is None or params.get("judged_only"):  # the latter looks past what nobody judged
        return None
    return 2 * int(params["cutoff"])


def _at(known: dict[int, float]) -> fusion.ScoresAt:
    return lambda ids: np.array([known.get(id_, np.nan) for id_ in ids.tolist()], np.float32)


def _cut(ranking: Ranking, depth: int) -> Ranking:
    return Ranking(ranking.ids[:depth], ranking.scores[:depth])

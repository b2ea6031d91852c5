"""Ways to fuse BM25 with a bi-encoder, by nDCG@10 on the dev questions of ../shared: README's tables of fusion.

    python -m tests.benchmarks.fusion --folder WORK [--sets piaf] [--questions N] [--encoder MODEL] [--weights .5 .75]

The folder is that of `tests.benchmarks.quality`. Each side ranks once, its first 100, and every way fuses the same.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import generation
from engine.collection import Collection
from engine.evaluation import Question, Run, evaluate, read_qrels, read_questions
from engine.evaluation.qrels import Qrels
from engine.evaluation.reports import render
from engine.reader import Reader
from engine.records import Ranking, SearchOptions
from engine.search import clean, plan
from indexes import fusion
from indexes.exact import best_of
from tests.benchmarks.quality import SETS, SHARED, collection_of, spread

DEPTH = 100
MEASURE = "nDCG@10"
RRF = 60

Fuse = Callable[[Ranking, Ranking, fusion.ScoresAt], Ranking]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where collections stay")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--questions", type=int, help="N dev questions of each set, spread evenly over it")
    parser.add_argument("--encoder", default="fouille-fr-bi-encoder", help="for collections that are not there yet")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9])
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "beir")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    ways = dict(ways_to_fuse(asked.weights))
    found = {name: measured(name, ways, asked) for name in asked.sets}
    rows = []
    for way in ways:
        values = {name: found[name][way] for name in asked.sets}
        values["mean"] = sum(values.values()) / len(values)
        rows.append({"nDCG@10": way} | {name: f"{value:.1f}" for name, value in values.items()})
    print(render(rows, "text"))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def ways_to_fuse(weights: Sequence[float]) -> Iterator[tuple[str, Fuse]]:
    """Each side alone, then every fusion, by name."""
    yield "BM25", lambda bm25, _dense, _at: bm25
    yield "dense", lambda _bm25, dense, _at: dense
    yield f"reciprocal rank, k {RRF}", lambda bm25, dense, _at: fusion.reciprocal_rank([bm25, dense], k=RRF)
    for weight in weights:
        yield f"least cosine as floor, {weight}", convex(weight)
    for weight in weights:
        yield f"theoretical floors, {weight}", theoretical(weight)


def convex(weight: float) -> Fuse:
    """What fouille does."""
    return lambda bm25, dense, at: fusion.convex(bm25, dense, weight=weight, dense_at=at)


def theoretical(weight: float) -> Fuse:
    """Floors of 0 and -1 (Bruch et al. 2022, TM2C2)."""

    def fuse(bm25: Ranking, dense: Ranking, at: fusion.ScoresAt) -> Ranking:
        ids = np.union1d(bm25.ids, dense.ids)
        lexical, cosines = np.zeros(len(ids)), at(ids).astype(np.float64) + 1
        if len(bm25.ids):
            lexical[np.searchsorted(ids, bm25.ids)] = bm25.scores / bm25.scores.max()
        scores = weight * cosines / cosines.max(initial=1e-9) + (1 - weight) * lexical
        return best_of(ids, scores.astype(np.float32), len(ids))

    return fuse


def measured(name: str, ways: dict[str, Fuse], asked: argparse.Namespace) -> dict[str, float]:
    """The measure of each way on one set, in hundredths."""
    qrels = read_qrels(asked.data / name / "qrels" / "dev.tsv")
    questions = spread(read_questions(asked.data / name, only=qrels), asked.questions)
    judged = Qrels({question.id: qrels[question.id] for question in questions}, name=qrels.name)
    with collection_of(name, asked, ["hybrid"]) as collection:
        runs = fused(collection, questions, ways)
    return {way: 100 * evaluate(run, judged, [MEASURE]).means[MEASURE] for way, run in runs.items()}


def fused(collection: Collection, questions: Sequence[Question], ways: dict[str, Fuse]) -> dict[str, Run]:
    """A run by each way; a passage that BM25 alone found has its exact cosine in all of them."""
    texts = [clean(question.text) for question in questions]
    with closing(Reader(generation.current(collection.path), collection.shelf)) as reader, reader.steady("hybrid"):
        encoder = plan(reader, SearchOptions(first_stage="hybrid", rerank=False)).encoder
        index = reader.dense
        assert encoder is not None
        assert index is not None
        assert reader.bm25 is not None
        vectors = encoder.encode_queries(texts)
        pairs = zip(reader.bm25.search_many(texts, DEPTH), index.search(vectors, DEPTH), vectors, strict=True)
        rankings = []
        for bm25, dense, vector in pairs:

            def cosines(ids: NDArray[np.int64], vector: NDArray[np.float32] = vector) -> NDArray[np.float32]:
                return index.scores(vector, ids)

            rankings.append({way: fuse(bm25, dense, cosines) for way, fuse in ways.items()})
        ids = {id_ for own in rankings for ranking in own.values() for id_ in ranking.ids[:DEPTH].tolist()}
        keys = {id_: passage.key for id_, passage in reader.catalog.passages(ids).items()}
    return {way: Run(scored(way, questions, rankings, keys), name=way) for way in ways}


def scored(
    way: str, questions: Sequence[Question], rankings: Sequence[dict[str, Ranking]], keys: dict[int, str]
) -> dict[str, dict[str, float]]:
    """A way's rankings by question and document."""
    found = {}
    for question, own in zip(questions, rankings, strict=True):
        ids, scores = own[way].ids[:DEPTH].tolist(), own[way].scores[:DEPTH].tolist()
        found[question.id] = {keys[id_]: score for id_, score in zip(ids, scores, strict=True)}
    return found


if __name__ == "__main__":
    main()

"""Whether the first hits of whole searches are those of fp32, by precision, on real questions; and what that costs.

    python -m tests.benchmarks.first_hits --folder WORK --model ../shared/models/xenc-fr-l12 --questions 20

The candidates are BM25's. `again` is the mean number of them that were scored a second time.
"""

from pathlib import Path
from typing import Any

import numpy as np

from engine.collection import Collection
from engine.documents import open_source
from engine.evaluation import read_questions
from engine.records import SearchOptions, SearchResult
from engine.settings import resolve
from tests.benchmarks import measure, shapes


def main() -> None:
    flags = measure.parser(__doc__ or "", str(shapes.SHARED / "models" / "xenc-fr-l12"))
    flags.add_argument("--sets", nargs="+", default=["piaf", "service-public"], help="of ../shared/data/beir")
    flags.add_argument("--questions", type=int, default=20, help="of each set, spread over it")
    flags.add_argument("--candidates", type=int, default=100)
    flags.add_argument("-k", type=int, default=10)
    flags.add_argument("--interpolate", type=float, default=0.0)
    flags.add_argument("--precision", default="auto,bf16", help="held against fp32, several with commas")
    asked = flags.parse_args()
    if asked.folder is None:
        flags.error("--folder is wanted, for the collections")
    options = SearchOptions(
        k=asked.k,
        candidates=asked.candidates,
        rerank=True,
        reranker=asked.model or asked.shape,
        interpolate=asked.interpolate,
        highlight=False,
    )
    rows = []
    for name in asked.sets:
        source = shapes.SHARED / "data" / "beir" / name
        make_collection(source, asked.folder / name)
        questions = [question.text for question in read_questions(source / "queries.jsonl")]
        questions = questions[:: max(1, len(questions) // asked.questions)][: asked.questions]
        reference: list[SearchResult] = []
        for precision in ("fp32", *asked.precision.split(",")):
            settings = resolve({"device": asked.device, "precision": precision})
            with Collection.open(asked.folder / name, settings=settings) as target:
                found = [target.search(question, options) for question in questions]
            reference = reference or found
            rows.append({"set": name, "precision": precision} | agreement(reference, found))
    facts = measure.machine(measure.chosen_device(asked.device)) | {
        "model": asked.model or asked.shape,
        "candidates": asked.candidates,
        "k": asked.k,
    }
    measure.report("First hits beside those of fp32", facts, rows, asked.json)


def make_collection(source: Path, folder: Path) -> None:
    """Index a BEIR folder with BM25, unless that was done before."""
    if not folder.exists():
        with Collection.create(folder, first_stage="bm25", splitter="none") as made:
            made.update([open_source(str(source))])


def agreement(reference: list[SearchResult], found: list[SearchResult]) -> dict[str, Any]:
    """How many hit lists are the same, how far shown logits differ, and the median time of reranking."""
    pairs = list(zip(map(shown, reference), map(shown, found), strict=True))
    differences = [abs(other[id_] - one[id_]) for one, other in pairs for id_ in one.keys() & other.keys()]
    return {
        "questions": len(found),
        "same order": sum(list(one) == list(other) for one, other in pairs),
        "same set": sum(one.keys() == other.keys() for one, other in pairs),
        "max difference": max(differences),
        "again": float(np.mean([result.rescored for result in found])),
        "most again": max(result.rescored for result in found),
        "rerank ms": float(np.median([result.timings["rerank"] for result in found])) * 1e3,
    }


def shown(result: SearchResult) -> dict[int, float]:
    """Logits of the hits by passage, best first."""
    return {hit.passage_id: hit.rerank_logit or 0.0 for hit in result.hits}


if __name__ == "__main__":
    main()

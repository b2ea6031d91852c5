"""The time of a warm search, by part: first stage, passages, reranking.

python -m tests.benchmarks.search_latency --shape l6 --passages 20000
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from engine.collection import Collection
from engine.records import SearchOptions
from engine.settings import resolve
from tests.benchmarks import corpus, measure, shapes


def main() -> None:
    flags = measure.parser(__doc__ or "", "l6")
    flags.add_argument("--passages", type=int, default=5000)
    flags.add_argument("--questions", type=int, default=20)
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        model = shapes.model_folder(asked.model or asked.shape, "classify", folder)
        corpus.make_collection(folder, asked.passages)
        questions = shapes.questions()[: asked.questions]
        rows = []
        settings = resolve({"device": asked.device})
        with Collection.open(folder / "collection", settings=settings) as target:
            for name, options in {
                "BM25 alone": SearchOptions(rerank=False),
                "30 candidates": SearchOptions(candidates=30, rerank=True, reranker=str(model)),
                "100 candidates": SearchOptions(candidates=100, rerank=True, reranker=str(model)),
            }.items():
                rows.append({"search": name} | latencies(target, questions, options))
        facts = measure.machine(measure.chosen_device(asked.device)) | {
            "model": asked.model or asked.shape,
            "passages": asked.passages,
        }
        measure.report(f"Warm searches, {len(questions)} questions", facts, rows, asked.json)


def latencies(target: Collection, questions: list[str], options: SearchOptions) -> dict[str, Any]:
    """Milliseconds: median and 95th percentile of the whole, median of each part."""
    target.search(questions[0], options)
    found = [target.search(question, options).timings for question in questions]
    totals = np.array([timings["total"] for timings in found]) * 1e3
    parts = sorted({part for timings in found for part in timings} - {"total"})
    return {"p50 ms": float(np.median(totals)), "p95 ms": float(np.percentile(totals, 95))} | {
        f"{part} ms": float(np.median([timings.get(part, 0.0) for timings in found])) * 1e3 for part in parts
    }


if __name__ == "__main__":
    main()

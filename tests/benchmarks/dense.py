"""Dense search beside plain FAISS: recall@100 against exact search, time per question, build time, memory.

Run: python tests/benchmarks/dense.py [--count 200000] [--vectors real.npy --questions questions.npy] [--json out.json]

Vectors are clustered and random, or real ones replicated with noise up to `--count`; float32 [n, d], normalised.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.records import Ranking
from indexes.dense import DenseIndex, DenseWriter

DEPTH = 100
BATCH = 64

Search = Callable[[np.ndarray], list[np.ndarray]]  # questions: float32[q, width] -> ids of each


def normalised(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def clustered(count: int, width: int, random: np.random.Generator) -> np.ndarray:
    centres = random.standard_normal((max(1, count // 100), width), dtype=np.float32)
    spread = 0.7 * random.standard_normal((count, width), dtype=np.float32)
    return normalised(centres[random.integers(0, len(centres), count)] + spread)


def replicated(real: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Real vectors, and copies with noise of a third of the distance to a typical nearest neighbour."""
    sample = real[:500] @ real.T
    nearest = np.sort(sample, axis=1)[:, -2]
    noise = np.sqrt(2 - 2 * np.minimum(nearest, 1)).mean() / 3 / np.sqrt(real.shape[1])
    copies = real[random.integers(0, len(real), max(0, count - len(real)))]
    return normalised(np.concatenate([real, copies + noise * random.standard_normal(copies.shape)])[:count])


def resident_megabytes() -> float:
    """Memory that is this process's own: mapped files, which the system may drop, do not count."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def milliseconds(search: Callable[[np.ndarray], object], questions: np.ndarray) -> float:
    """Time for a question: the best of three passes over the questions in calls of their size."""
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        search(questions)
        passes.append((time.perf_counter() - start) / len(questions))
    return 1000 * min(passes)


def measure(
    name: str, build: Callable[[], Search], questions: np.ndarray, truth: list[np.ndarray]
) -> dict[str, str | float]:
    before, start = resident_megabytes(), time.perf_counter()
    search = build()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    search(questions[:1])
    first = time.perf_counter() - start
    found = search(questions)
    return {
        "index": name,
        "recall@100": round(float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)])), 4),
        "ms, batch 1": round(float(np.mean([milliseconds(search, questions[[i]]) for i in range(20)])), 2),
        f"ms, batch {BATCH}": round(milliseconds(search, questions[:BATCH]), 2),
        "first ms": round(1000 * first, 1),
        "build s": round(seconds, 1),
        "memory MB": round(resident_megabytes() - before),
    }


def fouille(folder: Path, vectors: np.ndarray, limit: int) -> Search:
    if not folder.exists():
        with DenseWriter(folder, vectors.shape[1]) as writer:
            for at in range(0, len(vectors), 8192):
                writer.add(np.arange(at, min(at + 8192, len(vectors))), vectors[at : at + 8192])
            writer.commit(1)
    index = DenseIndex.open(folder)

    def search(questions: np.ndarray) -> list[np.ndarray]:
        with mock.patch("indexes.dense.FLAT_LIMIT", limit):
            rankings: list[Ranking] = index.search(questions, DEPTH)
        return [ranking.ids for ranking in rankings]

    return search


def plain(index: faiss.Index, vectors: np.ndarray) -> Search:
    index.add(vectors)
    return lambda questions: list(index.search(questions, DEPTH)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--hnsw", action="store_true", help="measure IndexHNSWFlat too: minutes to build")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    if options.vectors:
        vectors = replicated(np.load(options.vectors).astype(np.float32), options.count, random)
        questions = normalised(np.load(options.questions).astype(np.float32))[:256]
    else:
        vectors = clustered(options.count + 256, options.width, random)
        vectors, questions = vectors[:-256], vectors[-256:]
    width = vectors.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "dense"
        exact = faiss.IndexFlatIP(width)
        exact.add(vectors.astype(np.float16).astype(np.float32))
        truth = list(exact.search(questions, DEPTH)[1])
        del exact
        rows = [
            measure("fouille, as it chooses", lambda: fouille(stored, vectors, 100_000), questions, truth),
            measure("fouille, exact", lambda: fouille(stored, vectors, sys.maxsize), questions, truth),
            measure("faiss IndexFlatIP", lambda: plain(faiss.IndexFlatIP(width), vectors), questions, truth),
        ]
        if options.hnsw:
            hnsw = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
            hnsw.hnsw.efSearch = 128
            rows.append(measure("faiss IndexHNSWFlat", lambda: plain(hnsw, vectors), questions, truth))
        manifest = json.loads((stored / "manifest.json").read_text())
        attachments = json.loads(manifest["content"])["attachments"]
    print(f"{len(vectors)} vectors of {width}, {len(questions)} questions, {faiss.omp_get_max_threads()} threads")
    print("fouille's FAISS index:", attachments.get("faiss", {}).get("about", "none"))
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(str(value) for value in row.values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

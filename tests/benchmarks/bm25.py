"""BM25 against pyserini and bm25s: passages indexed per second, milliseconds per question, peak memory, the same hits.

    python -m tests.benchmarks.bm25 [--questions 300] [--repeats 5] [--indexes FOLDER] [--engines fouille-fr pyserini]

Each engine runs in a process of its own. They index one after the other, and search in turns, a round of all questions
each, so that whatever else the machine does meets all alike; the first round warms up. Milliseconds are by the clock,
but for `ms_cpu`: the mean of what the searching thread itself computes. `--indexes` keeps what was
indexed, and a later run that names the same folder only searches. `fouille` is measured twice: with its default
analysis, and with Lucene's FrenchAnalyzer, which is pyserini's `fr`, to compare hits. pyserini runs on Java's own
defaults (two indexing threads, `add_batch_dict`), bm25s with the French Snowball stemmer and stop words.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from tests.benchmarks.bm25_engines import ENGINES, Hits, serve


def read_texts(data: Path, limit: int | None) -> list[str]:
    from engine.records import passage_input

    with gzip.open(data / "droit-fr" / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [passage_input(record.get("title", ""), record["text"]) for record in records[:limit]]


def read_questions(data: Path, count: int) -> list[str]:
    with (data / "questions-fr" / "queries.jsonl").open(encoding="utf-8") as file:
        records = map(json.loads, file)
        return [r["text"] for r in records if r["metadata"]["source"] == "droit-fr"][:count]


class Contestant:
    """An engine in its process."""

    def __init__(self, name: str, indexes: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.bm25", *sys.argv[1:]]
        command += ["--engine", name, "--indexes", str(indexes)]
        self._process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.built: dict[str, float | None] = self._read()

    def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("MEASURED"):
                return json.loads(line.removeprefix("MEASURED"))
        raise ChildProcessError(f"ended with {self._process.wait()}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(contestants: dict[str, Contestant], questions: int, repeats: int) -> dict[str, Any]:
    """For each contestant: speed of indexing, times of search, agreement with pyserini."""
    alone: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    together: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, contestant in contestants.items():
            rounds = contestant.ask("one"), contestant.ask("many")
            if turn:
                alone[name] += rounds[0]
                together[name].append(rounds[1] / questions)
    results: dict[str, Any] = {}
    for name, contestant in contestants.items():
        results[name] = {
            "passages_per_second": contestant.built["speed"],
            "peak_mib": contestant.built["peak_mib"],
            "ms_mean": mean(clock for clock, _ in alone[name]),
            "ms_median": median(clock for clock, _ in alone[name]),
            "ms_cpu": mean(cpu for _, cpu in alone[name]),
            "ms_many": median(together[name]),
        }
    if {"fouille-fr", "pyserini"} <= contestants.keys():
        hits = (contestants[name].ask("hits") for name in ("fouille-fr", "pyserini"))
        results["fouille-fr"]["same_as_pyserini"] = agreement(*hits)
    return results


def agreement(ours: list[Hits], theirs: list[Hits]) -> float:
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


def table(results: dict[str, Any]) -> str:
    """One line an engine; times also as pyserini's over the engine's."""
    columns = {"passages_per_second": ".0f", "peak_mib": ".0f"}
    columns |= dict.fromkeys(("ms_mean", "ms_median", "ms_cpu", "ms_many"), ".2f")
    lines = ["".join([f"{'':12}", *(f"{name:>21}" for name in columns), f"{'as pyserini':>13}"])]
    rival = results.get("pyserini", {})
    for engine, measured in results.items():
        line = f"{engine:12}"
        for name, form in columns.items():
            value = measured[name]
            faster = f" ({rival[name] / value:.2f}x)" if value and name.startswith("ms") and rival else ""
            line += f"{'-' if value is None else format(value, form) + faster:>21}"
        same = measured.get("same_as_pyserini")
        lines.append(line + f"{'' if same is None else f'{same:.1%}':>13}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2].parent / "shared" / "data" / "beir")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--passages", type=int, help="only the first N")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of all questions for each engine")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--indexes", type=Path, metavar="FOLDER", help="keep the indexes, or search those kept")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    questions = read_questions(options.data, options.questions)
    if options.engine:
        texts = partial(read_texts, options.data, options.passages)
        serve(options.engine, texts, questions, options.indexes / options.engine)
        return
    with tempfile.TemporaryDirectory() as place:
        contestants: dict[str, Contestant] = {}
        for engine in options.engines:
            try:
                contestants[engine] = Contestant(engine, options.indexes or Path(place))
            except ChildProcessError as error:
                print(f"{engine}: {error}", file=sys.stderr)
        try:
            results = measure(contestants, len(questions), options.repeats)
        finally:
            for contestant in contestants.values():
                contestant.close()
    print(json.dumps(results, indent=1) if options.json else table(results))


if __name__ == "__main__":
    main()

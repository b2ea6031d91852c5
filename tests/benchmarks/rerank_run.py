"""Reranking a whole run: pairs a second and memory, beside a plain loop over sentence-transformers' `predict`.

    python -m tests.benchmarks.rerank_run --questions 1000 --candidates 1000 --shape l6

The run is random: each question gets as many passages of a corpus. `--shape tiny` (one layer of 32) costs next to
nothing a pair and so shows the memory and the speed of everything around the model. The rival scores a sample of the
same pairs, question by question as its users do, at its defaults.
"""

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import Question, Run
from engine.evaluation.rerank import CorpusPassages, rerank
from engine.models import CrossEncoder
from tests.benchmarks import shapes

TINY = shapes.Shape("tiny", "xlm-roberta", 1, 32, 2, 250_002, 514)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--passages", type=int, default=20_000, help="of the corpus")
    parser.add_argument("--words", type=int, default=100, help="of a passage, more or less")
    parser.add_argument("--shape", default="tiny", help="tiny, l6, l12, xlmr-base, or a model's folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rival-pairs", type=int, default=500, help="pairs that predict scores; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class Memory(threading.Thread):
    """Resident memory, MB, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[float] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        page = resource.getpagesize()
        while not self.stopped.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            self.seen.append(pages * page / 1e6)


def random_run(questions: int, candidates: int, passages: int) -> Run:
    draw = np.random.default_rng(0)
    return Run(
        {
            f"q{number}": {f"d{row}": 0.0 for row in draw.choice(passages, min(candidates, passages), replace=False)}
            for number in range(questions)
        },
        name="random",
    )


def predict_rate(folder: Path, run: Run, questions: dict[str, str], texts: list[str], pairs: int, device: str) -> float:
    from sentence_transformers import CrossEncoder as Reference

    model = Reference(str(folder), device=None if device == "auto" else device)
    started, done = time.perf_counter(), 0
    for question, ranked in run.items():
        chosen = ranked.documents[: min(100, pairs - done)]
        model.predict([(questions[question], texts[int(name[1:])]) for name in chosen], show_progress_bar=False)
        done += len(chosen)
        if done >= pairs:
            break
    return done / (time.perf_counter() - started)


def main() -> None:
    asked = arguments()
    shapes.SHAPES.setdefault("tiny", TINY)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        folder = shapes.model_folder(asked.shape, "classify", base)
        texts = shapes.passages_of(asked.words, asked.passages)
        with (base / "corpus.jsonl").open("w", encoding="utf-8") as stream:
            for row, text in enumerate(texts):
                stream.write(json.dumps({"_id": f"d{row}", "text": text}) + "\n")
        known = shapes.questions()
        questions = [Question(f"q{number}", known[number % len(known)]) for number in range(asked.questions)]
        run = random_run(asked.questions, asked.candidates, asked.passages)
        model = CrossEncoder(str(folder), asked.device)
        model.score("une question", ["un passage"])
        memory = Memory()
        memory.start()
        report = rerank(run, questions, CorpusPassages(str(base / "corpus.jsonl")), model, base / "out.trec")
        memory.stopped.set()
        memory.join()
        quarter = max(1, len(memory.seen) // 4)
        found = {
            "questions": report.questions,
            "candidates": asked.candidates,
            "shape": asked.shape,
            "device": model.device,
            "precision": model.precision,
            "pairs": report.pairs,
            "passages tokenised": report.passages,
            "truncated": report.truncated,
            "pairs/s": round(report.pairs_per_second, 1),
            "MB in the first quarter": round(max(memory.seen[:quarter], default=0)),
            "MB in the last quarter": round(max(memory.seen[-quarter:], default=0)),
        }
        if asked.rival_pairs:
            rate = predict_rate(folder, run, dict(questions), texts, asked.rival_pairs, asked.device)
            found |= {"predict, pairs/s": round(rate, 1), "times predict": round(report.pairs_per_second / rate, 1)}
    print(told(found))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    sys.stdout.flush()


def told(found: dict[str, Any]) -> str:
    """What was measured, a line each: what was reranked, speed, the rival's speed, memory."""
    first, last = found["MB in the first quarter"], found["MB in the last quarter"]
    lines = [
        f"reranked   {found['questions']:,} questions by {found['candidates']:,} candidates: {found['pairs']:,} pairs, "
        f"{found['passages tokenised']:,} passages tokenised once, {found['truncated']:,} pairs truncated "
        f"({found['shape']}, {found['device']}, {found['precision']})",
        f"fouille    {found['pairs/s']:,} pairs/s",
    ]
    if "times predict" in found:
        lines.append(
            f"predict    {found['predict, pairs/s']:,} pairs/s, a question a call, at its defaults: "
            f"fouille is {found['times predict']} times as fast"
        )
    lines.append(f"memory     {first:,} MB at most in the first quarter of the time, {last:,} MB in the last")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

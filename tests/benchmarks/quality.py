"""The README's table of quality: index, run, rerank and evaluate on the dev questions of ../shared, against BM25.

    python -m tests.benchmarks.quality --folder WORK [--sets piaf] [--systems bm25 hybrid+rerank] [--questions N]
    python -m tests.benchmarks.quality --folder WORK --measures nDCG@10 --interpolate 0 1 2

Every cell (one system on one set) is a TREC run in the folder; one that is finished is not made again, one that was
interrupted goes on. The candidates of all first stages are scored once, together, for whatever W is asked.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.collection import Collection
from engine.documents import open_source
from engine.evaluation import Evaluation, Question, Run, compare, evaluate, read_qrels, read_questions, read_run
from engine.evaluation.batch import run_questions
from engine.evaluation.measures import parse_measures
from engine.evaluation.provenance import Provenance, made_from, read_provenance, write_provenance
from engine.evaluation.qrels import Qrels
from engine.evaluation.rerank import CorpusPassages, rerank
from engine.evaluation.runs import write_run
from engine.models import CrossEncoder
from engine.records import FirstStage, SearchOptions
from indexes.fusion import standardised

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SETS = ("piaf", "service-public", "fiches-travail", "cnil-faq", "questions-fr")
STAGES: tuple[FirstStage, ...] = ("bm25", "dense", "hybrid")
SYSTEMS = tuple(stage + end for stage in STAGES for end in ("", "+rerank"))
MEASURES = ("MRR@10", "nDCG@10", "R@100")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where collections and runs stay")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--questions", type=int, help="N dev questions of each set, spread evenly over it")
    parser.add_argument("--candidates", type=int, default=100, help="passages of each first stage, all reranked")
    parser.add_argument("--measures", nargs="+", default=list(MEASURES))
    parser.add_argument("--interpolate", type=float, nargs="+", help="W in logit + W z; the model's own otherwise")
    parser.add_argument("--encoder", type=Path, default=SHARED / "models" / "me5-small-fr")
    parser.add_argument("--reranker", type=Path, default=SHARED / "models" / "xenc-fr-l12")
    parser.add_argument("--max-length", type=int, help="tokens of a pair; the model's own otherwise")
    parser.add_argument("--precision", default="auto", help="of the cross-encoder: auto, fp32, bf16, int8")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "beir")
    parser.add_argument("--json", type=Path, help="write every number there")
    return parser.parse_args(given)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A line on stderr every ten seconds."""

    def __init__(self, what: str) -> None:
        self.what, self.last, self.started = what, time.monotonic(), time.monotonic()

    def __call__(self, part: str, done: int, total: int | None) -> None:
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            rate = done / (self.last - self.started)
            say(
                f"  {self.what}: {part} {done}" + (f" of {total}, {(total - done) / rate:,.0f} s left" if total else "")
            )


def spread(questions: Sequence[Question], count: int | None) -> Sequence[Question]:
    """So many of them, evenly spread: neighbours are often about one document."""
    if count is None or count >= len(questions):
        return questions
    return [questions[at * len(questions) // count] for at in range(count)]


def collection_of(name: str, asked: argparse.Namespace, systems: Sequence[str]) -> Collection:
    """The set's collection; vectors only where a system needs them."""
    folder = asked.folder / name / "collection"
    dense = any(not system.startswith("bm25") for system in systems)
    if folder.exists():
        collection = Collection.open(folder)
        if dense and collection.info()["first_stage"] == "bm25":
            collection.widen("hybrid", str(asked.encoder))
    else:
        stage = "hybrid" if dense else "bm25"
        encoder = str(asked.encoder) if dense else None
        collection = Collection.create(folder, first_stage=stage, encoder=encoder, splitter="none")
    report = collection.update([open_source(str(asked.data / name), columns=None)], progress=Progress(f"{name}, index"))
    if report.rejected:
        raise SystemExit(f"{name}: {report.rejected} passages rejected, such as {report.rejections[0]}")
    return collection


def first_stage(
    collection: Collection, stage: FirstStage, questions: Sequence[Question], asked: argparse.Namespace
) -> Run:
    path = asked.folder / collection.path.parent.name / f"{stage}.trec"
    if not same_cell(path, questions, asked):
        options = SearchOptions(k=asked.candidates, first_stage=stage, rerank=False)
        report = run_questions(
            collection,
            questions,
            path,
            options,
            restart=True,
            progress=Progress(f"{collection.path.parent.name}, {stage}"),
        )
        say(f"  {path.name}: {report.questions / report.seconds:.1f} questions/s")
    return read_run(path)


def same_cell(path: Path, questions: Sequence[Question], asked: argparse.Namespace) -> bool:
    """Whether a finished run answers these questions at this depth."""
    made = read_provenance(path) if path.exists() else None
    if made is None or made["options"].get("k") != asked.candidates:
        return False
    return set(read_run(path)) == {question.id for question in questions}


def made_by(model: CrossEncoder, made: Mapping[str, Any]) -> bool:
    """Whether logits are this model's, at the same length and in the same precision."""
    how = made["options"]["max_length"], made["options"]["precision"]
    return model.hash in made["models"].values() and how == (model.max_length, model.precision)


def reranked(
    name: str,
    runs: dict[FirstStage, Run],
    questions: Sequence[Question],
    model: CrossEncoder,
    asked: argparse.Namespace,
) -> dict[str, Run]:
    """Every first stage's candidates by the cross-encoder: scored once as a union, ordered for each stage apart."""
    union = {
        question.id: {
            document: 0.0 for run in runs.values() if question.id in run for document in run[question.id].documents
        }
        for question in questions
    }
    candidates = Run({question: scored for question, scored in union.items() if scored}, name="union")
    path = asked.folder / name / f"logits-{candidates.fingerprint[:8]}.trec"
    made = read_provenance(path) if path.exists() else None
    if made is None or not made_from(made, candidates.fingerprint) or not made_by(model, made):
        # The union's own order says nothing: logits are kept plain, and each stage's score is mixed in below.
        passages = CorpusPassages(str(asked.data / name))
        told = Progress(f"{name}, rerank")
        report = rerank(candidates, questions, passages, model, path, interpolate=0.0, progress=told)
        say(f"  {report.pairs} pairs, {report.pairs_per_second:.0f}/s, {report.truncated} truncated")
    logits = read_run(path)
    found = {}
    for stage, run in runs.items():
        for weight in asked.interpolate or [model.recommended_interpolate(stage) or 0.0]:
            scored = {}
            for question, ranked in run.items():
                of = dict(zip(logits[question].documents, logits[question].scores.tolist(), strict=True))
                z = weight * standardised(ranked.scores)
                scored[question] = {name: of[name] + float(add) for name, add in zip(ranked.documents, z, strict=True)}
            system = f"{stage}+rerank, W = {weight:g}"
            target = asked.folder / name / f"{stage}+rerank-{weight:g}.trec"
            write_run(scored, target)
            options = {"k": asked.candidates, "interpolate": weight}
            inputs = {"run": run.fingerprint}
            write_provenance(target, Provenance("rerank", {"corpus": name}, {model.name: model.hash}, options, inputs))
            found[system] = Run(scored, name=system)
    return found


def measure(name: str, asked: argparse.Namespace, model: CrossEncoder | None) -> list[Evaluation]:
    """BM25 first, then every first stage that was asked for, followed by what reranks it."""
    qrels = read_qrels(asked.data / name / "qrels" / "dev.tsv")
    questions = spread(read_questions(asked.data / name, only=qrels), asked.questions)
    qrels = Qrels({question.id: qrels[question.id] for question in questions}, name=qrels.name)
    systems = {"bm25", *asked.systems}
    stages: list[FirstStage] = [stage for stage in STAGES if systems & {stage, f"{stage}+rerank"}]
    say(f"{name}: {len(questions)} questions")
    with collection_of(name, asked, sorted(systems)) as collection:
        runs = {stage: first_stage(collection, stage, questions, asked) for stage in stages}
    second = {stage: run for stage, run in runs.items() if f"{stage}+rerank" in systems}
    over = reranked(name, second, questions, model, asked) if second and model is not None else {}
    ordered = chain.from_iterable(
        [run, *(other for system, other in over.items() if system.startswith(f"{stage}+"))]
        for stage, run in runs.items()
    )
    return [evaluate(run, qrels, asked.measures) for run in ordered]


def marks(evaluations: Sequence[Evaluation]) -> dict[tuple[str, str], str]:
    """By run and measure: † for another than BM25, ‡ for another than the first stage that it reranks."""
    found: dict[tuple[str, str], str] = {}
    firsts = {one.run: one for one in evaluations if "+" not in one.run}
    base, *others = evaluations
    pairs = [("†", base, others)] if others else []
    pairs += [("‡", firsts[one.run.split("+")[0]], [one]) for one in evaluations if one.run not in firsts]
    for mark, baseline, runs in pairs:
        for one in compare(baseline, runs).differences:
            if one.randomisation_holm < 0.05:
                found[one.run, one.measure] = found.get((one.run, one.measure), "") + mark
    return found


def table(sets: Mapping[str, Sequence[Evaluation]]) -> Iterator[str]:
    """Lines of Markdown: a row a set and their mean, a column a system, its measures in per cent."""
    systems = [one.run for one in next(iter(sets.values()))]
    yield "| " + " | ".join(["set (questions)", *systems]) + " |"
    yield "|---" * (len(systems) + 1) + "|"
    for name, evaluations in sets.items():
        marked = marks(evaluations)
        cells = (
            " / ".join(f"{100 * mean:.1f}{marked.get((one.run, measure), '')}" for measure, mean in one.means.items())
            for one in evaluations
        )
        yield "| " + " | ".join([f"{name} ({len(evaluations[0].questions)})", *cells]) + " |"
    columns = zip(*sets.values(), strict=True)
    means = (
        " / ".join(f"{100 * fmean(one.means[measure] for one in column):.1f}" for measure in column[0].means)
        for column in columns
    )
    yield "| " + " | ".join(["mean", *means]) + " |"


def main() -> None:
    asked = arguments()
    parse_measures(asked.measures)
    model = None
    if any(system.endswith("+rerank") for system in asked.systems):
        model = CrossEncoder(str(asked.reranker), precision=asked.precision, max_length=asked.max_length)
    found: dict[str, list[Evaluation]] = {}
    for name in asked.sets:
        (asked.folder / name).mkdir(parents=True, exist_ok=True)
        found[name] = measure(name, asked, model)
        if asked.json:
            asked.json.write_text(json.dumps([record(*one) for one in found.items()], indent=2), encoding="utf-8")
    print(" / ".join(asked.measures))
    print("\n".join(table(found)))
    print(
        "† differs from BM25: randomisation test, p < 0.05 after Holm's correction over a set's systems and measures; "
        "‡ from the first stage that it reranks, after Holm's over the measures."
    )


def record(name: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """A set's measures and what differs from BM25, for a file."""
    base, *others = evaluations
    return {
        "set": name,
        "questions": len(base.questions),
        "systems": {one.run: one.means for one in evaluations},
        "differences": [asdict(one) for one in compare(base, others).differences] if others else [],
    }


if __name__ == "__main__":
    main()

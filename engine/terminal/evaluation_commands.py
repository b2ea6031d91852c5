"""The commands that measure retrieval: run, rerank, evaluate, tune, benchmark. `mount` adds them to the application."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from engine.errors import EvaluationError, InvalidOption
from engine.settings import Settings
from engine.terminal import options as flag
from engine.terminal.given import open_collection, search_options, settings_of
from engine.terminal.progress import progress
from engine.terminal.sanitise import sanitise, sanitise_line

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.evaluation.measures import Evaluation
    from engine.evaluation.significance import Comparison
    from engine.records import FirstStage, LongPassages

__all__ = ["mount"]

_MEASURES = "RPrec MRR@10 nDCG@10 R@10 R@20 R@50 R@100 R@500 P@10 AP"
_PROTOCOLS = """\b
Protocols (source; candidates; measures):
  mmarco-fr-small-dev   mMARCO French small dev, 6,980 questions, 8.8 million passages;
                        the first stage's top 1000 of the whole collection and, in a table of
                        its own, the file of positives and ColBERTv2 hard negatives, 1,000 a
                        question; MRR@10 R@10 R@100 R@500 R@1000
  mmarco-fr-train500    500 training questions of msmarco-qidpidtriples.rnd-shuf.train-eval;
                        relevant passages and up to 200 BM25 negatives each;
                        RPrec MRR@10 R@10 R@20 R@50 R@100
  beir:PATH[:SPLIT]     a BEIR folder; the first stage's top; nDCG@10 MRR@10 R@100
  irds:ID               an ir_datasets id; the same
  mteb:TASK             a French task of MTEB, through mteb; its main score
\b
A copy of mMARCO for --data has the hub's layout (unicamp-dl/mmarco):
  google/collections/french_collection.tsv
  google/queries/dev/french_queries.dev.small.tsv
  google/queries/train/french_queries.train.tsv
  qrels.dev.small.tsv
  colbertv2-negatives.dev.small.jsonl
  msmarco-qidpidtriples.rnd-shuf.train-eval.tsv
\b
Example:
  fouille benchmark mmarco-fr-train500 --data mmarco --reranker models/l6"""

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The TREC run to write.")]
Tag = Annotated[str, typer.Option("--tag", metavar="NAME", help="The last column of the run.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop an interrupted run instead of going on.")]
Judgements = Annotated[
    str, typer.Option("--qrels", metavar="QRELS", help="TREC or BEIR qrels, a BEIR folder, or irds:ID.")
]
Asked = Annotated[
    str,
    typer.Option("--questions", metavar="QUESTIONS", help="TSV, JSONL, a BEIR folder, or irds:ID."),
]
TableFormat = Annotated[
    Literal["text", "json", "csv", "latex"],
    typer.Option("--format", metavar="FORMAT", help="text, json, csv or latex."),
]


def mount(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    questions_example = "fouille run questions.tsv -c aide -o bm25.trec --first-stage bm25 --no-rerank"
    app.command(epilog=f"\b\nExample:\n  {questions_example}")(run)
    rerank_example = "fouille rerank bm25.trec --questions questions.tsv --corpus beir/piaf -o reranked.trec"
    app.command(epilog=f"\b\nExample:\n  {rerank_example}")(rerank)
    evaluate_example = "fouille evaluate bm25.trec reranked.trec --qrels qrels.tsv --baseline bm25.trec"
    app.command(epilog=f"\b\nExample:\n  {evaluate_example}")(evaluate)
    app.command(epilog="\b\nExample:\n  fouille tune -c aide --questions dev.tsv --qrels dev.qrels")(tune)
    app.command(epilog=_PROTOCOLS)(benchmark)


def _say(text: str) -> None:
    sys.stdout.write(f"{sanitise(text)}\n")


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"fouille: {sanitise_line(line)}\n")


def _metadata(pairs: Sequence[str] | None) -> Mapping[str, str]:
    return dict(map(flag.pair, pairs or ()))


def run(
    context: typer.Context,
    questions: Annotated[
        str, typer.Argument(metavar="QUESTIONS", help="TSV (id, text), JSONL, a BEIR folder, or irds:ID.")
    ],
    file: Output,
    collection: flag.Collection = None,
    hits: Annotated[int, typer.Option("-k", "--k", metavar="N", help="Documents to rank for each question.")] = 1000,
    judged: Annotated[
        str | None, typer.Option("--qrels", metavar="QRELS", help="Ask only the questions that these judge.")
    ] = None,
    candidates: flag.Candidates = None,
    first_stage: flag.FirstStageOption = None,
    k1: flag.K1 = None,
    b: flag.B = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    interpolate: flag.Interpolate = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    long_passages: flag.LongPassagesOption = None,
    keys: flag.In = None,
    where: flag.Where = None,
    tag: Tag = "fouille",
    restart: Restart = False,
) -> None:
    """Search for many questions and write a TREC run, each document once.

    An interrupted run goes on where it stopped. What made the run stands in a JSON file beside it.
    """
    from engine.evaluation.batch import run_questions
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions

    settings = settings_of(context)
    asked = read_questions(questions, only=read_qrels(judged) if judged else None)
    options = search_options(settings, k=hits, rerank=do_rerank, keys=keys, where=_metadata(where))
    with open_collection(settings) as target, progress() as report:
        done = run_questions(target, asked, file, options, tag=tag, restart=restart, progress=report)
    _note(done.notices)
    if done.resumed:
        _note([f"went on after {done.resumed:,} questions answered before"])
    if done.without_hits:
        _note([f"{done.without_hits:,} questions without a hit: no line in the run"])
    speed = done.questions / done.seconds if done.seconds else 0.0
    _note([f"{done.questions:,} questions, {done.lines:,} lines, {speed:,.1f} questions/s: {file}"])


def rerank(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A TREC run of any system.")],
    questions: Asked,
    file: Output,
    collection: flag.Collection = None,
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", metavar="CORPUS", help="A BEIR folder, JSONL, TSV or irds:ID, instead of -c."),
    ] = None,
    reranker: flag.Reranker = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", help="Rerank the first N, leave out the others.")
    ] = None,
    interpolate: flag.Interpolate = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    long_passages: flag.LongPassagesOption = None,
    tag: Tag = "fouille",
    restart: Restart = False,
) -> None:
    """Rerank any system's run over a collection or a corpus: all pairs in one stream of full batches."""
    from engine.evaluation.provenance import file_fingerprint
    from engine.evaluation.questions import read_questions
    from engine.evaluation.rerank import CollectionPassages, CorpusPassages
    from engine.evaluation.rerank import rerank as rerank_run
    from engine.evaluation.runs import read_run

    if depth is not None and depth < 1:
        raise InvalidOption(f"{depth} is less than 1", where="--depth")
    if corpus is not None and collection is not None:
        raise InvalidOption("both --corpus and -c", hint="passages come from one of them")
    settings = settings_of(context)
    first, asked = read_run(run), read_questions(questions)
    target = open_collection(settings) if corpus is None else None
    name = settings.reranker or (target.memory["reranker"] if target is not None else settings.reranker_or_default)
    with progress() as report:
        done = rerank_run(
            first,
            asked,
            CorpusPassages(corpus) if corpus is not None else CollectionPassages(cast("Collection", target)),
            _cross_encoder(settings, name),
            file,
            depth=depth,
            interpolate=settings.interpolate,
            long_passages=cast("LongPassages", settings.long_passages or "truncate"),
            inputs={"run": file_fingerprint(run), "questions": file_fingerprint(questions)},
            tag=tag,
            restart=restart,
            progress=report,
        )
    if target is not None:
        target.close()
    _note(done.notices)
    if done.resumed:
        _note([f"went on after {done.resumed:,} questions reranked before"])
    _note(
        [
            f"{done.questions:,} questions, {done.pairs:,} pairs, {done.passages:,} passages, {done.truncated:,} pairs "
            f"truncated, {done.pairs_per_second:,.0f} pairs/s: {file}"
        ]
    )


def _cross_encoder(settings: Settings, name: str) -> Any:
    from engine.models.shelf import Shelf

    found = Shelf(settings).reranker(name, fetch=True)
    _note(found.notices)
    return found


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="TREC runs.")],
    qrels: Judgements,
    measures: Annotated[
        str, typer.Option("--measures", metavar="MEASURES", help="Names of ir-measures, and MRR@k, RPrec.")
    ] = _MEASURES,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="RUN", help="Compare with this run, with significance.")
    ] = None,
    per_question: Annotated[bool, typer.Option("--per-question", help="Show every question's measures.")] = False,
    output: TableFormat = "text",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="PNG or SVG: differences by question, or recall by cutoff."),
    ] = None,
    plot_kind: Annotated[
        Literal["differences", "recall"] | None,
        typer.Option("--plot-kind", metavar="KIND", help="differences (with a baseline) or recall."),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", metavar="N", help="Of the randomisation test.")
    ] = 100_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the randomisation test.")] = 0,
) -> None:
    """Measure runs against judgements, as trec_eval does, and compare them with a baseline.

    Questions without results score zero and are counted. With a baseline: the paired t-test and the randomisation test,
    corrected by Holm over every run and measure shown, and † where the latter says p < 0.05.
    """
    from engine.evaluation.measures import evaluate as measure
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.runs import read_run
    from engine.evaluation.significance import compare

    judgements = read_qrels(qrels)
    paths = ([] if baseline is None or baseline in runs else [baseline]) + list(runs)
    names = [str(path) if [one.name for one in paths].count(path.name) > 1 else None for path in paths]
    read = [read_run(path, name=name) for path, name in zip(paths, names, strict=True)]
    found = [measure(one, judgements, measures) for one in read]
    comparison = None
    if baseline is not None:
        at = paths.index(baseline)
        others = [one for place, one in enumerate(found) if place != at]
        comparison = compare(found[at], others, permutations=permutations, seed=seed)
    _note(warning for one in found for warning in one.warnings)
    _note(_differing(paths))
    _show(found, comparison, output, each=per_question)
    if plot is not None:
        kind = plot_kind or ("differences" if comparison else "recall")
        _plot(kind, plot, read, found, judgements, paths.index(baseline) if baseline else None)


def _differing(paths: Sequence[Path]) -> Iterable[str]:
    """Where the provenance of each run differs from the first one's."""
    from engine.evaluation.provenance import differences, read_provenance

    records = [(path, read_provenance(path)) for path in paths]
    known = [(path, record) for path, record in records if record is not None]
    if not known:
        return
    first, reference = known[0]
    for path, record in known[1:]:
        told = [f"{name}: {one} / {other}" for name, one, other in differences(reference, record)]
        if told:
            yield f"{first.name} and {path.name} differ in " + "; ".join(told)


def _show(found: "Sequence[Evaluation]", comparison: "Comparison | None", output: str, *, each: bool) -> None:
    from engine.evaluation import reports
    from engine.terminal.formats import to_json

    if output == "json":
        _say(to_json(reports.evaluation_record(found, comparison, each=each)))
        return
    if output == "csv" and (each or comparison):
        # One table a file: the finest that was asked for.
        rows = reports.per_question_table(found) if each else reports.comparison_table(cast("Comparison", comparison))
        _say(reports.render(rows, "csv"))
        return
    tables = [reports.measures_table(found, comparison)]
    if comparison is not None:
        tables += [reports.comparison_table(comparison), reports.changes_table(comparison.differences)]
    if each:
        tables.append(reports.per_question_table(found))
    _say("\n\n".join(reports.render(rows, output) for rows in tables if rows))


def _plot(
    kind: str, path: Path, runs: Sequence[Any], found: "Sequence[Evaluation]", qrels: Any, baseline: int | None
) -> None:
    from engine.evaluation.plots import plot_differences, plot_recall

    if kind == "recall":
        plot_recall(runs, qrels, path)
        return
    others = [place for place in range(len(found)) if place != baseline]
    if baseline is None or len(others) != 1:
        raise EvaluationError("a plot of differences needs a baseline and one other run", where=path)
    plot_differences(found[baseline], found[others[0]], next(iter(found[baseline].scores)), path)


def tune(
    context: typer.Context,
    questions: Asked,
    qrels: Judgements,
    collection: flag.Collection = None,
    measure: Annotated[str, typer.Option("--measure", metavar="MEASURE", help="What to maximise.")] = "nDCG@10",
    folds: Annotated[int, typer.Option("--folds", metavar="N", help="Of the cross-validation.")] = 5,
    first_stage: flag.FirstStageOption = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    store: Annotated[bool, typer.Option("--store/--dry-run", help="Store the chosen values, or only show.")] = True,
    output: TableFormat = "text",
) -> None:
    """Choose k1, b, the fusion's weight, candidates and the interpolation's weight on dev questions.

    A stage's values are stored where questions that had no part in the choice confirm them (cross-validation).
    """
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions
    from engine.evaluation.reports import render, tuning_tables
    from engine.evaluation.tuning import tune as tune_collection

    settings = settings_of(context)
    judgements = read_qrels(qrels)
    asked = read_questions(questions, only=judgements)
    options = search_options(settings, rerank=do_rerank)
    with open_collection(settings) as target:
        with progress() as report:
            found = tune_collection(
                target, asked, judgements, options=options, measure=measure, folds=folds, progress=report
            )
        _say("\n\n".join(render(rows, output) for rows in tuning_tables(found)))
        if store and found.chosen:
            target.remember(**found.chosen)
            _note(["stored: " + ", ".join(f"{name} {value:g}" for name, value in found.chosen.items())])


def benchmark(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A protocol, see below.")],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where collection, runs and provenance stay.")
    ] = Path("benchmark"),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="A copy of mMARCO; downloaded otherwise.")
    ] = None,
    first_stage: flag.FirstStageOption = None,
    encoder: flag.Encoder = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="Candidates of the first stage.")] = 1000,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="The first N questions only, for a trial.")
    ] = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    restart: Restart = False,
    output: TableFormat = "text",
) -> None:
    """Run a named protocol from start to end, with the figures that the models' cards publish beside."""
    from engine.evaluation.protocols import benchmark as run_protocol
    from engine.evaluation.protocols import protocol_of
    from engine.evaluation.reports import render

    protocol_of(name)
    settings = settings_of(context)
    model = _cross_encoder(settings, settings.reranker_or_default) if do_rerank is not False else None
    with progress() as report:
        tables = run_protocol(
            name,
            folder / name.replace("/", "_").replace(":", "-"),
            reranker=model,
            data=data,
            first_stage=cast("FirstStage", settings.first_stage or "bm25"),
            encoder=settings.encoder_or_default if settings.encoder or settings.first_stage else None,
            settings=settings,
            depth=depth,
            limit=limit,
            restart=restart,
            progress=report,
        )
    if output == "json":
        from engine.terminal.formats import to_json

        _say(to_json([{"protocol": one.protocol, "title": one.title, "rows": one.table()} for one in tables]))
        return
    for table in tables:
        _note(f"{table.title}: {notice}" for notice in table.notices)
    titled = output == "text"
    _say(
        "\n\n".join(
            (f"{one.protocol}: {one.title}\n" if titled else "") + render(one.table(), output) for one in tables
        )
    )

"""`fouille evaluate`: runs measured against judgements, and compared with a baseline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engine.errors import EvaluationError
from engine.evaluation.defaults import DEFAULT_MEASURES, PERMUTATIONS
from engine.terminal.evaluation_commands import flags
from engine.terminal.evaluation_commands.output import note, say

if TYPE_CHECKING:
    from engine.evaluation import Comparison, Evaluation, Run

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = "\b\nExample:\n  fouille evaluate bm25.trec reranked.trec --qrels qrels.tsv --baseline bm25.trec"
_HASH_LENGTH = 64


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="TREC runs.")],
    qrels: flags.Judgements,
    measures: Annotated[
        str, typer.Option("--measures", metavar="MEASURES", help="Measures of ir-measures, and MRR@k, RPrec.")
    ] = DEFAULT_MEASURES,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="RUN", help="Compare with this run, by tests of significance.")
    ] = None,
    per_question: Annotated[bool, typer.Option("--per-question", help="Show every question's measures.")] = False,
    output: flags.TableFormat = "text",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw a PNG or SVG: differences by question, or recall by cutoff."),
    ] = None,
    plot_kind: Annotated[
        Literal["differences", "recall"] | None,
        typer.Option("--plot-kind", metavar="KIND", help="differences (the default with a baseline) or recall."),
    ] = None,
    plot_measure: Annotated[
        str | None,
        typer.Option(
            "--plot-measure",
            metavar="MEASURE",
            help="Measure whose differences are plotted. [default: nDCG@10, else the first]",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", metavar="N", help="Permutations of the randomisation test.")
    ] = PERMUTATIONS,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the randomisation test.")] = 0,
) -> None:
    """Measure runs against judgements, as trec_eval does, and compare them with a baseline.

    Questions without results score zero and are counted. With a baseline: the paired t-test and the randomisation test,
    corrected by Holm over every run and measure shown, and † where the latter says p < 0.05.
    """
    from engine.evaluation.measures import evaluate as measure
    from engine.evaluation.plots import check_plot_path, plot_recall
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.significance import compare

    if plot is not None:
        check_plot_path(plot)
    judgements = read_qrels(qrels)
    paths, at = _listed(runs, baseline)
    read = _read(paths)
    evaluations = [measure(run, judgements, measures) for run in read]
    comparison = None
    if at is not None:
        comparison = compare(evaluations[at], _others(evaluations, at), permutations=permutations, seed=seed)
    note(warning for evaluation in evaluations for warning in evaluation.warnings)
    note(_differing(paths))
    _show(evaluations, comparison, output, each=per_question)
    if plot is None:
        return
    if (plot_kind or ("recall" if at is None else "differences")) == "recall":
        plot_recall(read, judgements, plot)
    else:
        _plot_differences(evaluations, at, plot_measure, plot)


def _listed(runs: Sequence[Path], baseline: Path | None) -> tuple[list[Path], int | None]:
    """Each file once, however it was named, the baseline first where it is none of the runs; and its place."""
    files: dict[Path, Path] = {}
    for path in runs:
        files.setdefault(path.resolve(), path)
    if baseline is None:
        return list(files.values()), None
    if baseline.resolve() not in files:
        files = {baseline.resolve(): baseline, **files}
    return list(files.values()), list(files).index(baseline.resolve())


def _read(paths: Sequence[Path]) -> "list[Run]":
    """The runs, named by their files, or by their paths where two would be called the same."""
    from engine.evaluation.runs import read_run, run_name

    called = [run_name(path) for path in paths]
    names = [str(path) if called.count(name) > 1 else name for path, name in zip(paths, called, strict=True)]
    return [read_run(path, name=name) for path, name in zip(paths, names, strict=True)]


def _others(evaluations: "Sequence[Evaluation]", baseline: int) -> "list[Evaluation]":
    return [evaluation for place, evaluation in enumerate(evaluations) if place != baseline]


def _differing(paths: Sequence[Path]) -> Iterator[str]:
    """Where the provenance of each run differs from the first one's."""
    from engine.evaluation.provenance import differences, read_provenance

    records = [(path, read_provenance(path)) for path in paths]
    known = [(path, record) for path, record in records if record is not None]
    for path, record in known[1:]:
        first, reference = known[0]
        differing = [f"{name}: {_brief(one)} / {_brief(other)}" for name, one, other in differences(reference, record)]
        if differing:
            yield f"{first.name} and {path.name} differ in " + "; ".join(differing)


def _brief(value: object) -> str:
    """A value of a provenance as a person compares it: a hash by its beginning."""
    text = "not set" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == _HASH_LENGTH else text


def _show(evaluations: "Sequence[Evaluation]", comparison: "Comparison | None", output: str, *, each: bool) -> None:
    from engine.evaluation import reports
    from engine.terminal.formats import to_json

    if output == "json":
        say(to_json(reports.evaluation_record(evaluations, comparison, each=each)), output)
        return
    tables = [reports.measures_table(evaluations, comparison)]
    if comparison is not None:
        tables.append(reports.comparison_table(comparison))
        if output != "csv":
            tables.append(reports.changes_table(evaluations, comparison))
    if each:
        tables.append(reports.per_question_table(evaluations))
    if output == "csv":
        tables = tables[-1:]  # one table a file: the finest that was asked for
    say("\n\n".join(reports.render(rows, output) for rows in tables if rows), output)


def _plot_differences(
    evaluations: "Sequence[Evaluation]", baseline: int | None, measure: str | None, path: Path
) -> None:
    from engine.evaluation.plots import plot_differences

    if baseline is None or len(evaluations) != 2:
        raise EvaluationError("a plot of differences needs a baseline and one other run", where=path)
    (other,) = _others(evaluations, baseline)
    measured = list(other.scores)
    plot_differences(
        evaluations[baseline], other, measure or ("nDCG@10" if "nDCG@10" in measured else measured[0]), path
    )

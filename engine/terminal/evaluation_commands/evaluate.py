"""`fouille evaluate`: runs measured against judgements, and compared with a baseline."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engine.errors import EvaluationError, InvalidOption
from engine.evaluation.defaults import DEFAULT_MEASURES, PERMUTATIONS
from engine.terminal.evaluation_commands import flags
from engine.terminal.output import note, say_table

if TYPE_CHECKING:
    from engine.evaluation import Comparison, Evaluation, Qrels, Run

    _Known = tuple[Path, Run, dict[str, Any]]  # a run and what its provenance says
    _Made = Mapping[str, Mapping[str, Any]]  # what the provenance of a run says, by the run's name

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = "\b\nExample:\n  fouille evaluate bm25.trec reranked.trec --qrels qrels.tsv --baseline bm25.trec"
_MOST_LINES = 12
_EXPLAINED = {"inputs.questions": " (if only one asked unjudged questions too: run and rerank take --qrels)"}


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
        int | None,
        typer.Option(
            "--permutations", metavar="N", help=f"Permutations of the randomisation test. [default: {PERMUTATIONS}]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Seed of the randomisation test. [default: 0]")
    ] = None,
) -> None:
    """Measure runs against judgements, as trec_eval does.

    Questions without results score zero and are counted. With a baseline, runs are compared with it: the paired t-test
    and the randomisation test, corrected by Holm over every run and measure shown, and † where the latter says p <
    0.05. Runs that fouille made show where they were made otherwise.
    """
    from engine.evaluation.measures import evaluate as measure
    from engine.evaluation.measures import parse_measures
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.significance import compare

    paths, at = _listed(runs, baseline)
    if at is None:
        _refuse_without("--baseline", {"--permutations": permutations, "--seed": seed})
    elif len(paths) < 2:
        raise EvaluationError("no run to compare with the baseline", where=baseline)
    kind = _kind_of_plot(plot, plot_kind, plot_measure, paths, at)
    plotted = _plotted_measure(plot_measure, list(parse_measures(measures)))
    judgements = read_qrels(qrels)
    read = _read(paths)
    evaluations = [measure(run, judgements, measures) for run in read]
    comparison = None
    if at is not None:
        drawn = PERMUTATIONS if permutations is None else permutations
        comparison = compare(evaluations[at], _others(evaluations, at), permutations=drawn, seed=seed or 0)
    note(warning for evaluation in evaluations for warning in evaluation.warnings)
    known = _known(paths, read)
    note(_unfair(known, paths[at or 0]))
    _show(evaluations, comparison, {run.name: record for _, run, record in known}, output, each=per_question)
    if plot is not None:
        _draw(plot, kind, plotted, read, judgements, evaluations, at)


def _refuse_without(needed: str, flags: Mapping[str, object]) -> None:
    """See that no flag is given that says nothing without another one.

    Raises:
        InvalidOption: one is.
    """
    for name, value in flags.items():
        if value is not None:
            raise InvalidOption(f"says nothing without {needed}", where=name)


def _kind_of_plot(
    plot: Path | None, kind: str | None, measure: str | None, paths: Sequence[Path], baseline: int | None
) -> str:
    """What to draw, before anything is computed for it.

    Raises:
        InvalidOption: the flags do not go together.
        EvaluationError, StorageError: the plot cannot be drawn of these runs, or written there.
    """
    from engine.evaluation.plots import check_plot_path

    if plot is None:
        _refuse_without("--plot", {"--plot-kind": kind, "--plot-measure": measure})
        return "none"
    check_plot_path(plot)
    kind = kind or ("recall" if baseline is None else "differences")
    if kind == "recall":
        _refuse_without("--plot-kind differences", {"--plot-measure": measure})
    elif baseline is None:
        raise InvalidOption("says nothing without --baseline", where="--plot-kind differences")
    elif len(paths) != 2:
        raise EvaluationError("a plot of differences needs a baseline and one other run", where=plot)
    return kind


def _plotted_measure(asked: str | None, measured: Sequence[str]) -> str:
    """The measure whose differences are plotted.

    Raises:
        InvalidOption: it is not among those measured.
    """
    if asked is not None and asked not in measured:
        raise InvalidOption(f"is none of the measures {' '.join(measured)}", where=f"--plot-measure {asked}")
    return asked or ("nDCG@10" if "nDCG@10" in measured else measured[0])


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


def _known(paths: Sequence[Path], runs: "Sequence[Run]") -> "list[_Known]":
    """The runs that a provenance stands beside."""
    from engine.evaluation.provenance import read_provenance

    return [(path, run, record) for path, run in zip(paths, runs, strict=True) if (record := read_provenance(path))]


def _unfair(known: "Sequence[_Known]", reference: Path) -> list[str]:
    """Why it is unfair to compare runs with the baseline, else with the first: a line a reason, not too many."""
    from engine.evaluation.provenance import brief, unfair_differences

    if len(known) < 2:
        return []
    one = next((entry for entry in known if entry[0] == reference), known[0])
    lines = [
        f"{one[0].name} and {path.name} differ in {name}: {brief(left)} / {brief(right)}{_EXPLAINED.get(name, '')}"
        for path, run, record in known
        if path != one[0] and not _one_of_the_other(one, (path, run, record))
        for name, left, right in unfair_differences(one[2], record)
    ]
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"and in {more} more"]


def _one_of_the_other(one: "_Known", other: "_Known") -> bool:
    """Whether one run was made from the other, as a reranking from its first stage: their records differ by nature."""
    from engine.evaluation.provenance import file_fingerprint, made_from

    return any(
        made_from(record, run.fingerprint) or made_from(record, file_fingerprint(path))
        for (path, run, _), (_, _, record) in ((one, other), (other, one))
    )


def _show(
    evaluations: "Sequence[Evaluation]", comparison: "Comparison | None", made: "_Made", output: str, *, each: bool
) -> None:
    from engine.evaluation import reports
    from engine.terminal.formats import to_json

    if output == "json":
        say_table(to_json(reports.evaluation_record(evaluations, comparison, made, each=each)), output)
        return
    say_table(reports.together(_tables(evaluations, comparison, made, output, each=each), output), output)


def _tables(
    evaluations: "Sequence[Evaluation]", comparison: "Comparison | None", made: "_Made", output: str, *, each: bool
) -> Iterator[str]:
    """The tables of a format; of CSV that of the questions stands alone, as what reads it expects one table."""
    from engine.evaluation import reports

    if each and output == "csv":
        yield reports.render(reports.per_question_table(evaluations), output)
        return
    # In CSV numbers stay numbers: significance stands in the table of comparisons.
    yield (runs := reports.render(reports.measures_table(evaluations, None if output == "csv" else comparison), output))
    if comparison is not None:
        if r"\dagger" in runs:
            yield reports.significance_note(comparison)
        yield reports.render(reports.comparison_table(comparison), output)
        if output == "text" and (changes := reports.changes_table(evaluations, comparison)):
            yield reports.render(changes, output)
    if output == "text" and (differing := reports.making_table(made)):
        yield reports.render(differing, output)
    if each:
        yield reports.render(reports.per_question_table(evaluations), output)


def _draw(
    path: Path,
    kind: str,
    measure: str,
    runs: "Sequence[Run]",
    judgements: "Qrels",
    evaluations: "Sequence[Evaluation]",
    baseline: int | None,
) -> None:
    from engine.evaluation.plots import plot_differences, plot_recall

    if kind == "recall" or baseline is None:
        plot_recall(runs, judgements, path)
    else:
        (other,) = _others(evaluations, baseline)
        plot_differences(evaluations[baseline], other, measure, path)

"""Tables of measures and comparisons as text, JSON, CSV or LaTeX: strings, for whoever prints them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import EvaluationError
from engine.evaluation.measures import Evaluation
from engine.evaluation.provenance import brief, side_by_side
from engine.evaluation.significance import Comparison

if TYPE_CHECKING:
    from engine.evaluation.tuning import Tuning

__all__ = [
    "FORMATS",
    "changes_table",
    "comparison_table",
    "evaluation_record",
    "making_table",
    "measures_table",
    "per_question_table",
    "render",
    "significance_note",
    "together",
    "tuning_record",
    "tuning_tables",
    "tuning_trials",
]

FORMATS = ("text", "json", "csv", "latex")
Cell = str | float | int | None
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "Δ": r"$\Delta$", "<": "$<$"}
)
_LEAST_P = 0.0001  # smaller p-values would print as 0.0000


def measures_table(evaluations: Sequence[Evaluation], comparison: Comparison | None = None) -> list[dict[str, Cell]]:
    """A row a run, a column a measure; with a comparison, marked † where p < 0.05 after Holm's correction."""
    significant = {
        (difference.run, difference.measure)
        for difference in (comparison.differences if comparison else ())
        if difference.randomisation_holm < 0.05
    }
    rows: list[dict[str, Cell]] = []
    for evaluation in evaluations:
        row: dict[str, Cell] = {"run": evaluation.run}
        for measure, mean in evaluation.means.items():
            row[measure] = f"{mean:.4f}†" if (evaluation.run, measure) in significant else mean
        rows.append({**row, "questions": len(evaluation.questions), "unanswered": len(evaluation.unanswered)})
    return rows


def comparison_table(comparison: Comparison) -> list[dict[str, Cell]]:
    """A row for each run and measure against the baseline."""
    return [
        {
            "run": difference.run,
            "measure": difference.measure,
            "mean": difference.mean,
            "baseline": difference.baseline_mean,
            "difference": difference.difference,
            "wins": difference.wins,
            "ties": difference.ties,
            "losses": difference.losses,
            "p (t)": difference.t_p,
            "Holm (t)": difference.t_holm,
            "p (rand.)": difference.randomisation_p,
            "Holm (rand.)": difference.randomisation_holm,
        }
        for difference in comparison.differences
    ]


def changes_table(evaluations: Sequence[Evaluation], comparison: Comparison, count: int = 10) -> list[dict[str, Cell]]:
    """By run, the questions that changed most over all measures: `count` at most, with every measure's difference."""
    rows: list[dict[str, Cell]] = []
    baseline = next(evaluation for evaluation in evaluations if evaluation.run == comparison.baseline)
    for run in evaluations:
        if run is baseline:
            continue
        delta = np.stack([run.scores[measure] - values for measure, values in baseline.scores.items()], axis=1)
        size = np.abs(delta).sum(axis=1)
        for place in np.argsort(-size, kind="stable")[:count]:
            if size[place] > 0:
                changes = zip(baseline.scores, delta[place].tolist(), strict=True)
                rows.append({"run": run.run, "question": baseline.questions[place]} | {f"Δ {m}": d for m, d in changes})
    return rows


def making_table(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Cell]]:
    """A row for each thing in which runs were made otherwise, a column a run; `records`: provenance by run."""
    rows: list[dict[str, Cell]] = []
    for name, values in side_by_side(list(records.values())).items():
        shown = (None if value is None else brief(value) for value in values)
        rows.append({"made with": name, **dict(zip(records, shown, strict=True))})
    return rows


def per_question_table(evaluations: Sequence[Evaluation]) -> list[dict[str, Cell]]:
    """A row for each run and question."""
    return [
        {"run": evaluation.run, "question": question}
        | {measure: float(values[row]) for measure, values in evaluation.scores.items()}
        for evaluation in evaluations
        for row, question in enumerate(evaluation.questions)
    ]


def evaluation_record(
    evaluations: Sequence[Evaluation],
    comparison: Comparison | None,
    records: Mapping[str, Mapping[str, Any]],
    *,
    each: bool,
) -> dict[str, Any]:
    """Everything as one JSON value: what differs in the provenance of runs, by name, too; `each` adds the questions."""
    record: dict[str, Any] = {
        "runs": [
            {
                "run": evaluation.run,
                "measures": evaluation.means,
                "questions": len(evaluation.questions),
                "unanswered": list(evaluation.unanswered),
                "unjudged": list(evaluation.unjudged),
                "without_relevant": list(evaluation.without_relevant),
            }
            for evaluation in evaluations
        ]
    }
    if comparison:
        record["comparison"] = asdict(comparison)
        record["changes"] = changes_table(evaluations, comparison)
    if made := side_by_side(list(records.values())):
        record["made_with"] = {name: dict(zip(records, values, strict=True)) for name, values in made.items()}
    if each:
        record["per_question"] = per_question_table(evaluations)
    return record


def render(rows: Sequence[Mapping[str, Cell]], form: str) -> str:
    """Rows of the same columns as text, json, csv or latex, without a final line end.

    Raises:
        EvaluationError: another format.
    """
    if form == "json":
        return json.dumps(list(rows), ensure_ascii=False, indent=2)
    if form not in FORMATS:
        raise EvaluationError(f"no format {form!r}", hint=", ".join(FORMATS))
    columns = list(rows[0]) if rows else []
    if form == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[column] for column in columns] for row in rows)
        return stream.getvalue().rstrip("\n")
    shown = [[_shown(column, row[column]) for column in columns] for row in rows]
    numeric = [all(not isinstance(row[column], str) or _marked(row[column]) for row in rows) for column in columns]
    return _latex(columns, shown, numeric) if form == "latex" else _text(columns, shown, numeric)


def together(parts: Iterable[str], form: str) -> str:
    """Tables as rendered and what else is said, an empty line between them, behind what their format needs."""
    return "\n\n".join(["% needs booktabs"] * (form == "latex") + list(parts))


def significance_note(comparison: Comparison) -> str:
    """What † means in a table of LaTeX, to stand below it."""
    baseline = comparison.baseline.translate(_LATEX)
    meaning = f"differs from {baseline}: randomisation test, $p < 0.05$ after Holm's correction"
    return f"\\par\\smallskip{{\\footnotesize $^{{\\dagger}}$ {meaning}\\par}}"


def _marked(value: Cell) -> bool:
    return isinstance(value, str) and value.endswith("†")


def _shown(column: str, value: Cell) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if column == "difference" or column.startswith("Δ "):
        return f"{value:+.4f}" if value else "0"
    if column.startswith(("p (", "Holm (")) and value < _LEAST_P:
        return f"<{_LEAST_P}"
    return f"{value:.4f}"


def _text(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ).rstrip()
        for cells in (columns, *rows)
    ]
    return "\n".join(lines)


def _latex(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX).replace("†", r"$^{\dagger}$") for cell in cells) + r" \\"

    layout = "".join("r" if right else "l" for right in numeric)
    body = "\n".join(line(row) for row in rows)
    return (
        f"\\begin{{tabular}}{{{layout}}}\n\\toprule\n{line(columns)}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}"
    )


def tuning_tables(tuning: "Tuning") -> list[list[dict[str, Cell]]]:
    """What each stage chose, then every trial of each stage."""
    chosen: list[dict[str, Cell]] = [
        {
            "stage": stage.name,
            "chosen": " ".join(f"{name}={value:g}" for name, value in stage.chosen.items()) or "as it was",
            f"{tuning.measure} before": stage.before,
            "held out": stage.held_out,
            "p (rand.)": stage.p,
        }
        for stage in tuning.stages
    ]
    trials: list[list[dict[str, Cell]]] = [
        [
            {name: f"{trial.setting[name]:g}" if name in trial.setting else "-" for name in names}
            | {tuning.measure: trial.mean}
            for trial in stage.trials
        ]
        for stage in tuning.stages
        for names in [dict.fromkeys(name for trial in stage.trials for name in trial.setting)]
    ]
    return [chosen, *trials]


def tuning_trials(tuning: "Tuning") -> list[dict[str, Cell]]:
    """Every trial of every stage in one table; a value that a stage does not try is None."""
    names = dict.fromkeys(name for stage in tuning.stages for trial in stage.trials for name in trial.setting)
    return [
        {"stage": stage.name, **{name: trial.setting.get(name) for name in names}, tuning.measure: trial.mean}
        for stage in tuning.stages
        for trial in stage.trials
    ]


def tuning_record(tuning: "Tuning") -> dict[str, Any]:
    """What each stage chose, and every trial, as one JSON value."""
    stages = [
        {"stage": stage.name, "chosen": stage.chosen, "before": stage.before, "held_out": stage.held_out, "p": stage.p}
        for stage in tuning.stages
    ]
    return {"measure": tuning.measure, "stages": stages, "trials": tuning_trials(tuning)}

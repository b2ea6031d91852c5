"""Plots of measured runs as PNG or SVG, by what the file is called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DependencyMissing, EvaluationError, StorageError
from engine.evaluation.measures import Evaluation, evaluate
from engine.evaluation.qrels import Qrels
from engine.evaluation.runs import Run

__all__ = ["CUTOFFS", "check_plot_path", "plot_differences", "plot_recall"]

CUTOFFS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_ENDINGS = (".png", ".svg")


def check_plot_path(path: str | Path) -> Path:
    """The path, before anything is computed for it.

    Raises:
        EvaluationError: it ends neither in .png nor in .svg.
        StorageError: its folder is not there, or it is a folder itself.
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise EvaluationError(f"a plot ends in {' or '.join(_ENDINGS)}", where=path)
    if path.is_dir() or not path.parent.is_dir():
        raise StorageError(f"cannot be written: {'is a' if path.is_dir() else 'no such'} folder", where=path)
    return path


def plot_differences(baseline: Evaluation, run: Evaluation, measure: str, path: str | Path) -> None:
    """Differences from the baseline question by question, from the greatest gain to the greatest loss.

    Raises:
        EvaluationError: another ending than .png or .svg, a measure that was not computed, or other questions.
        StorageError: the system refused to write.
    """
    if run.questions != baseline.questions or measure not in run.scores or measure not in baseline.scores:
        raise EvaluationError(f"{measure} of the same questions is needed", where=f"{run.run}, {baseline.run}")
    delta = np.sort(run.scores[measure] - baseline.scores[measure])[::-1]
    figure, axes = _figure()
    axes.bar(np.arange(1, len(delta) + 1), delta, width=1.0, color=np.where(delta >= 0, "#2a78b5", "#c44e52"))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", alpha=0.3)
    gained, lost = int((delta > 0).sum()), int((delta < 0).sum())
    axes.set(
        xlim=(0.5, len(delta) + 0.5),
        xlabel=f"questions ({gained} better, {len(delta) - gained - lost} equal, {lost} worse)",
        ylabel=_literal(f"{measure}: {run.run} - {baseline.run}"),
    )
    _save(figure, path)


def plot_recall(runs: Sequence[Run], qrels: Qrels, path: str | Path, *, cutoffs: Sequence[int] = CUTOFFS) -> None:
    """Recall against the cutoff, a line a run.

    Raises:
        EvaluationError: another ending than .png or .svg, or a run that answers none of the questions.
        StorageError: the system refused to write.
    """
    figure, axes = _figure()
    for run in runs:
        means = evaluate(run, qrels, [f"R@{cutoff}" for cutoff in cutoffs]).means
        axes.plot(cutoffs, list(means.values()), marker="o", markersize=3, label=_literal(run.name))
    axes.set(xlabel="cutoff", ylabel="recall", xscale="log", ylim=(0, 1.02))
    axes.set_xticks(cutoffs, [str(cutoff) for cutoff in cutoffs])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _literal(text: str) -> str:
    """Text that matplotlib shows as it stands: no formula between dollars, no line left out for its underscore."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _figure() -> tuple[Any, Any]:
    # Figure without pyplot: no window system, no global state.
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("matplotlib is not installed", hint="pip install 'fouille[eval]'") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, path: str | Path) -> None:
    path = check_plot_path(path)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror or error}", where=path) from error

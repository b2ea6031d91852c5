"""What a training leaves beside the weights: a model card that tells how it was made, and its learning curve."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import DependencyMissing
from engine.training.dev import MEASURES
from engine.training.recipes import Recipe
from engine.training.sources import Origin

__all__ = ["SHARED", "figures", "is_worse", "write_card", "write_curve"]

CURVE = "learning-curve.png"
SHARED = "groups whose question is also asked of the model to measure it"
_OF_SCORES = ("listwise", "margin-mse")
_TASKS = {"cross-encoder": "text-ranking", "bi-encoder": "sentence-similarity"}
_LOADED = {
    "cross-encoder": (
        'from sentence_transformers import CrossEncoder\n\nCrossEncoder("FOLDER").predict([(question, passage)])'
    ),
    "bi-encoder": (
        "from sentence_transformers import SentenceTransformer\n\n"
        'SentenceTransformer("FOLDER").encode([question], prompt_name="query")'
    ),
}


def figures(history: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """What was measured on dev questions, step by step: `step` and `MEASURES`."""
    return [
        {"step": entry["step"], **{name: entry[f"eval_{name}"] for name in MEASURES}}
        for entry in history
        if f"eval_{MEASURES[0]}" in entry
    ]


def is_worse(history: Iterable[Mapping[str, float]], kept_step: int | None) -> bool:
    """Whether the base, measured before the first step, was better than what was kept."""
    found = {entry["step"]: entry[MEASURES[0]] for entry in figures(history)}
    return kept_step in found and found[kept_step] < found.get(0, 0.0)


def write_card(
    folder: Path,
    recipe: Recipe,
    history: Sequence[Mapping[str, float]],
    origin: Origin,
    *,
    counts: Mapping[str, int],
    kept_step: int | None,
    first_step: int,
    seconds: float,
) -> None:
    """Writes README.md: data and licences, the recipe's numbers, figures on dev questions.

    Args:
        folder: of the model.
        recipe: how it was trained.
        history: what was logged.
        origin: what made the groups.
        counts: what the data held, by name.
        kept_step: the step whose weights these are, None for the last.
        first_step: the one that the last session went on from.
        seconds: that this session took.
    """
    parts = [
        _front_matter(recipe),
        f"# A {recipe.kind} for French, fine-tuned from {_name(recipe.base)}",
        f"Trained with `fouille train {recipe.kind} --preset {recipe.preset}`, on sentence-transformers' trainer, "
        f"in {_duration(seconds)}{f' from step {first_step:,} on' if first_step else ''}.",
        "## Data",
        _data(recipe, origin, counts),
        "## Recipe",
        _table(("", ""), [(f"`{name}`", _shown(name, value)) for name, value in recipe.numbers().items()]),
        *_figures(history, kept_step, counts.get(SHARED, 0)),
        "## Use",
        f"```python\n{_LOADED[recipe.kind]}\n```",
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _front_matter(recipe: Recipe) -> str:
    lines = [
        "---",
        "language: fr",
        *([f"license: {recipe.licence.lower()}"] if recipe.licence else []),
        "library_name: sentence-transformers",
        f"pipeline_tag: {_TASKS[recipe.kind]}",
        f"base_model: {_name(recipe.base)}",
        f"tags: [sentence-transformers, {recipe.kind}]",
        "---",
    ]
    return "\n".join(lines)


def _data(recipe: Recipe, origin: Origin, counts: Mapping[str, int]) -> str:
    lines = [f"- {_name(spec)}" for spec in recipe.data] or ["- given from Python, not by name"]
    if origin.teacher:
        lines.append(f"- scored by {_name(origin.teacher)}")
    elif recipe.loss in _OF_SCORES:
        lines.append("- taught by the scores that the data hold: those of `fouille mine` are the first stage's")
    lines += [f"- without the questions of {_name(origin.held_out)}"] if origin.held_out else []
    lines += [f"- {line}" for line in origin.skipped.lines()]
    lines += [f"- {count:,} {what}" for what, count in counts.items()]
    lines.append(f"- licences of the data: {recipe.data_licence or 'not stated'}")
    lines.append(f"- licence of this model: {recipe.licence or 'not stated'}")
    return "\n".join(lines)


def _figures(history: Sequence[Mapping[str, float]], kept_step: int | None, shared: int) -> list[str]:
    measured = figures(history)
    if not measured:
        return ["## Figures", "No dev questions were given, so nothing was measured."]
    rows = [
        (f"{entry['step']:,.0f}{' (kept)' if entry['step'] == kept_step else ''}", *_percent(entry))
        for entry in measured
    ]
    part = f"of which {shared:,} were learnt from too, and which" if shared else "which took no part in training but"
    caption = f"Reranking the candidates of dev questions, {part} chose the step that was kept:"
    worse = ["The base was better before it was trained."] if is_worse(history, kept_step) else []
    return ["## Figures", caption, *worse, _table(("step", *MEASURES), rows), f"![loss and figures by step]({CURVE})"]


def _percent(entry: Mapping[str, float]) -> list[str]:
    return [f"{100 * entry[name]:.1f}" for name in MEASURES]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _name(spec: str) -> str:
    """A source as others may read it: the path of someone's machine tells them nothing."""
    return Path(spec).name if Path(spec).is_absolute() or spec.startswith(("~", ".")) else spec


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "base":
        return _name(value)
    return ", ".join(_name(str(one)) for one in value) or "-" if isinstance(value, list) else f"{value}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def write_curve(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Writes the loss, and the figures on dev questions where there are any, by step, as a PNG.

    Raises:
        DependencyMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("matplotlib is not installed", hint="pip install 'fouille[train]'") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    axes.plot(*zip(*losses, strict=True) if losses else ((), ()), color="#2a78b5", label="loss")
    axes.set(xlabel="step", ylabel="loss")
    measured = figures(history)
    if measured:
        right = axes.twinx()
        for name, style in zip(MEASURES, ("-", "--"), strict=True):
            steps, values = [entry["step"] for entry in measured], [100 * entry[name] for entry in measured]
            right.plot(steps, values, style, color="#c44e52", marker="o", markersize=3, label=name)
        right.set_ylabel("on dev questions, %")
        right.legend(loc="lower right")
    figure.savefig(folder / CURVE, dpi=150)

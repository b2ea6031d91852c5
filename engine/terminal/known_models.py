"""`fouille models`: the names fouille knows, where each model lies, and what it is good for."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.settings import SHIPPED, Settings
from engine.terminal.render import fold
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import Style

__all__ = ["models_record", "render"]

_INDENT = "    "
_HOW = """\
Any other model: give its folder, or its name where there is a network, and it is downloaded once.
  fouille index FOLDER -c NAME --encoder intfloat/multilingual-e5-base --reranker BAAI/bge-reranker-v2-m3
  fouille search QUESTION --reranker antoinelouis/crossencoder-camembert-base-mmarcoFR
  fouille models export MODEL FOLDER    (writes one out for sentence-transformers and transformers)"""


def models_record(settings: Settings) -> list[dict[str, Any]]:
    """Every model that can be had by name, and those that the settings name beside them, for JSON."""
    from engine.models.registry import obtainable

    defaults = {settings.encoder_or_default: "encoder", settings.reranker_or_default: "reranker"}
    known, published = obtainable(), _published()
    found: list[dict[str, Any]] = [
        {
            "name": model.name,
            "kind": model.kind,
            "family": model.family,
            "parameters_millions": model.parameters,
            "trained_length": model.trained,
            "longest_length": model.longest,
            "licence": model.licence,
            "good_for": model.good_for,
            "measured": model.measured,
            "published": published.get(model.name),
            "default_for": defaults.get(model.name),
            "ships": model.name in SHIPPED,
            "folder": _folder(model.name),
        }
        for model in known
    ]
    kinds = {"encoder": "bi-encoder", "reranker": "cross-encoder"}
    for name in defaults.keys() - {model.name for model in known}:
        own = {"name": name, "kind": kinds[defaults[name]], "default_for": defaults[name], "folder": _folder(name)}
        found.append(dict.fromkeys(found[0]) | own | {"good_for": "named in your settings", "ships": False})
    return found


def _folder(name: str) -> str | None:
    """Where a model lies; one that ships and was never used lies in its package alone, and is not unpacked for this."""
    from engine.models import registry, unpacking

    folder = unpacking.found(name) if name in SHIPPED else registry.locate(name)
    return None if folder is None else str(folder)


def _published() -> dict[str, dict[str, float]]:
    """MRR@10 in percent that the models' cards publish, by model and protocol."""
    from engine.evaluation.protocols import published

    found: dict[str, dict[str, float]] = {}
    for protocol in ("mmarco-fr-train500", "mmarco-fr-small-dev"):
        for row in published(protocol):
            found.setdefault(row.system, {})[protocol] = row.values["MRR@10"]
    return found


def render(models: list[dict[str, Any]], style: Style) -> str:
    """The models by kind, those at hand marked, and how to get the others."""
    blocks = []
    for kind, use in (("cross-encoder", "rerankers (--reranker)"), ("bi-encoder", "encoders (--encoder)")):
        lines = [style.paint(use, "bold")]
        for model in models:
            if model["kind"] == kind:
                lines += _model(model, style)
        blocks.append("\n".join(lines))
    about, *commands = _HOW.split("\n")
    how = [*_set_in(about, style, ""), *(line for one in commands for line in _set_in(one, style, "", "      "))]
    return "\n\n".join([*blocks, "\n".join(how)])


def _model(model: Mapping[str, Any], style: Style) -> Iterator[str]:
    here = model["ships"] or model["folder"] is not None
    mark = style.paint("✓", "green") if here else " "
    default = style.paint(" (default)", "cyan") if model["default_for"] else ""
    yield f"{mark} {style.paint(sanitise_line(model['name']), 'bold')}{default}"
    for line in _set_in(_described(model), style):
        yield style.paint(line, "dim")
    yield from _set_in(model["good_for"], style)
    yield from _set_in(_measured(model), style)
    if model["ships"]:
        yield f"{_INDENT}ships with fouille"
    else:
        # A path is left whole, to be copied.
        yield _INDENT + (sanitise_line(model["folder"]) if here else "not on this machine")


def _described(model: Mapping[str, Any]) -> str:
    millions = model["parameters_millions"]
    return "; ".join(
        filter(None, [model["family"], f"{millions} M parameters" if millions else None, model["licence"]])
    )


def _measured(model: Mapping[str, Any]) -> str:
    figures = [f"{percent:.1f} on {protocol}" for protocol, percent in (model["published"] or {}).items()]
    published = f"MRR@10 {', '.join(figures)}, by its card" if figures else None
    return "; ".join(filter(None, [model["measured"], published]))


def _set_in(text: str, style: Style, margin: str = _INDENT, further: str | None = None) -> Iterator[str]:
    """The lines of `text`, none where it is empty, set in by `margin` and folded between words.

    What is folded goes on behind the margin `further`, else behind the same.
    """
    if len(margin + text) <= style.width:
        yield from [margin + text] if text else []
        return
    further = margin if further is None else further
    first, *rest = fold(text, style.width - max(len(margin), len(further)))
    yield margin + first
    yield from (further + line for line in rest)

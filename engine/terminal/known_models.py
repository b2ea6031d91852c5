"""`fouille models`: the names fouille knows, where each model lies, and what it is good for."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.settings import SHIPPED, Settings
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import Style

__all__ = ["models_record", "render"]

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
    return "\n\n".join([*blocks, _HOW])


def _model(model: Mapping[str, Any], style: Style) -> Iterator[str]:
    here = model["ships"] or model["folder"] is not None
    mark = style.paint("✓", "green") if here else " "
    default = style.paint(" (default)", "cyan") if model["default_for"] else ""
    yield f"{mark} {style.paint(sanitise_line(model['name']), 'bold')}{default}"
    millions = model["parameters_millions"]
    facts = [model["family"], f"{millions} M parameters" if millions else None, model["licence"]]
    described = "; ".join(filter(None, facts))
    if described:
        yield style.paint(f"    {described}", "dim")
    yield f"    {model['good_for']}"
    figures = [f"{percent:.1f} on {protocol}" for protocol, percent in (model["published"] or {}).items()]
    if measured := "; ".join(
        filter(None, [model["measured"], f"MRR@10 {', '.join(figures)}, by its card" if figures else None])
    ):
        yield f"    {measured}"
    if model["ships"]:
        yield "    ships with fouille"
    else:
        yield f"    {sanitise_line(model['folder']) if here else 'not on this machine'}"

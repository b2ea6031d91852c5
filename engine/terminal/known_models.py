"""`fouille models`: the names fouille knows, where each model lies, and what it is good for."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.settings import Settings
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import Style

__all__ = ["models_record", "render"]


def models_record(settings: Settings) -> list[dict[str, Any]]:
    """Every known model, and those that the settings name beside them, for JSON."""
    from engine.models.registry import KNOWN, locate

    defaults = {settings.encoder_or_default: "encoder", settings.reranker_or_default: "reranker"}
    found = []
    for model in KNOWN.values():
        folder = locate(model.name)
        found.append(
            {
                "name": model.name,
                "kind": model.kind,
                "family": model.family,
                "parameters_millions": model.parameters,
                "trained_length": model.trained,
                "longest_length": model.longest,
                "licence": model.licence,
                "good_for": model.good_for,
                "default_for": defaults.get(model.name),
                "folder": None if folder is None else str(folder),
            }
        )
    kinds = {"encoder": "bi-encoder", "reranker": "cross-encoder"}
    for name, role in defaults.items():
        if name not in KNOWN:
            folder = locate(name)
            own = dict.fromkeys(found[0]) | {"name": name, "kind": kinds[role], "default_for": role}
            found.append(
                own | {"good_for": "named in your settings", "folder": None if folder is None else str(folder)}
            )
    return found


def render(models: list[dict[str, Any]], style: Style) -> str:
    """The models by kind, those at hand marked."""
    blocks = []
    for kind, use in (("cross-encoder", "rerankers (--reranker)"), ("bi-encoder", "encoders (--encoder)")):
        lines = [style.paint(use, "bold")]
        for model in models:
            if model["kind"] == kind:
                lines += _model(model, style)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _model(model: Mapping[str, Any], style: Style) -> Iterator[str]:
    here = model["folder"] is not None
    mark = style.paint("✓", "green") if here else " "
    default = style.paint(" (default)", "cyan") if model["default_for"] else ""
    yield f"{mark} {style.paint(sanitise_line(model['name']), 'bold')}{default}"
    millions = model["parameters_millions"]
    facts = [model["family"], f"{millions} M parameters" if millions else None, model["licence"]]
    described = "; ".join(filter(None, facts))
    if described:
        yield style.paint(f"    {described}", "dim")
    yield f"    {model['good_for']}"
    yield f"    {sanitise_line(model['folder']) if here else 'not on this machine'}"

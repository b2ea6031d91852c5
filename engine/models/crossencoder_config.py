"""What a cross-encoder's folder says beyond its architecture: labels, prompt, activation, and what it recommends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import ModelDamaged, ModelUnsupported
from engine.models.architecture import read_json
from engine.records import FirstStage

__all__ = [
    "ScoreActivation",
    "check_labels",
    "default_activation",
    "recommended_candidates",
    "recommended_weights",
    "refuse_prompt",
]

ScoreActivation = Literal["sigmoid", "none"]

_ACTIVATIONS: dict[str, ScoreActivation] = {"Sigmoid": "sigmoid", "Identity": "none"}


def check_labels(folder: Path, labels: int) -> None:
    """See that a model gives one logit.

    Raises:
        ModelUnsupported: it gives several.
    """
    if labels != 1:
        raise ModelUnsupported(
            f"gives {labels} labels, not one score", where=folder, hint="take a cross-encoder with one label"
        )


def refuse_prompt(folder: Path) -> None:
    """See that sentence-transformers would put nothing in front of a question.

    Raises:
        ModelUnsupported: the model's folder names a prompt as its default.
    """
    where = folder / "config_sentence_transformers.json"
    settings = read_json(where) or {}
    prompts = settings.get("prompts")
    if isinstance(prompts, dict) and prompts.get(settings.get("default_prompt_name")):
        raise ModelUnsupported("puts a prompt in front of its texts", where=where)


def default_activation(folder: Path, config: dict[str, Any]) -> ScoreActivation:
    """The activation that sentence-transformers would apply: of its own file, of `config.json`, else a sigmoid."""
    named = (read_json(folder / "config_sentence_transformers.json") or {}).get("activation_fn")
    nested = config.get("sentence_transformers")
    if named is None and isinstance(nested, dict):
        named = nested.get("activation_fn")
    if named is None:
        named = config.get("sbert_ce_default_activation_function")
    if named is None:
        return "sigmoid"
    try:
        return _ACTIVATIONS[str(named).rpartition(".")[2]]
    except KeyError:
        raise ModelUnsupported(
            f"activation {named} is neither a sigmoid nor the identity", where=folder, hint="set it in config.json"
        ) from None


def recommended_weights(folder: Path, config: dict[str, Any]) -> Mapping[FirstStage | None, float]:
    """Weight by first stage, None standing for any other; empty when nothing is recommended.

    Raises:
        ModelDamaged: one is no finite number from 0 up, or a key no first stage.
    """
    value = _recommended(config, "interpolate")
    if value is None:
        return {}
    by_stage = value if isinstance(value, dict) else {None: value}
    are_stages = set(by_stage) <= {None, *get_args(FirstStage)}
    if not by_stage or not are_stages or not all(map(_is_weight, by_stage.values())):
        what = "not a number from 0 up, nor one for each of bm25, dense and hybrid"
        raise ModelDamaged(f"fouille.interpolate is {value!r}, {what}", where=folder / "config.json", hint="mend it")
    weights = {stage: float(weight) for stage, weight in by_stage.items()}
    return {None: min(weights.values()), **weights}


def recommended_candidates(folder: Path, config: dict[str, Any]) -> int | None:
    """How many candidates to rerank.

    Raises:
        ModelDamaged: it is no whole number from 1 up.
    """
    count = _recommended(config, "candidates")
    if count is not None and (type(count) is not int or count < 1):
        what = f"fouille.candidates is {count!r}, not a whole number from 1 up"
        raise ModelDamaged(what, where=folder / "config.json", hint="mend it")
    return count


def _recommended(config: dict[str, Any], name: str) -> Any:
    """What a model's `config.json` tells fouille under a name, None when nothing."""
    own = config.get("fouille")
    return own.get(name) if isinstance(own, dict) else None


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")

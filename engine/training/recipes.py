"""Recipes: every number of a training in one frozen record, by a preset's name, overridden by TOML and by flags."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import TrainingError

__all__ = ["PRESETS", "Kind", "Loss", "Recipe", "resolve_recipe"]

Kind = Literal["cross-encoder", "bi-encoder"]
Loss = Literal["binary", "listwise", "margin-mse", "contrastive"]
Schedule = Literal["linear", "constant", "cosine"]

_LOSSES: Mapping[Kind, tuple[Loss, ...]] = {
    "cross-encoder": ("binary", "listwise", "margin-mse"),
    "bi-encoder": ("contrastive", "margin-mse"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        preset: its name.
        kind: cross-encoder or bi-encoder.
        loss: `binary` cross-entropy of pairs, `listwise` against a teacher (ListNet, Cao et al. 2007), `margin-mse`
            against a teacher (Hofstätter et al. 2020), or `contrastive` (InfoNCE, in-batch and mined negatives).
        base: name or folder of the model to start from.
        layers: which of the base's layers to keep, in order; None keeps all.
        frozen: so many of the lowest layers, and the embeddings, are left as they are; None trains everything.
        max_length: tokens of a pair, or of a text.
        examples: at most this many pairs (`binary`) or groups are drawn; None takes what there is.
        negatives: to each positive.
        boost: added to the teacher's score of a judged passage (`listwise`).
        anchor: weight of the binary part that keeps a listwise logit's level.
        epochs, steps: how long; `steps`, where given, decides.
        batch: pairs, groups or triples of a step.
        accumulate: batches before the optimiser steps.
        learning_rate: at its peak.
        layer_decay: factor from a layer's rate to the one below.
        warmup: steps when 1 or more, a share of all steps below.
        schedule: linear decay, constant, or cosine, after the warm-up.
        weight_decay: AdamW's.
        evaluate_every: steps between evaluations on dev questions, and between checkpoints.
        patience: evaluations without a better figure before training stops; None never stops.
        seed: of drawing, shuffling and initial weights.
        precision: auto (what the device is fast at), fp32, bf16 or fp16.
    """

    preset: str
    kind: Kind
    loss: Loss
    base: str
    layers: tuple[int, ...] | None = None
    frozen: int | None = None
    max_length: int = 512
    examples: int | None = None
    negatives: int = 4
    boost: float = 4.0
    anchor: float = 0.1
    epochs: int = 1
    steps: int | None = None
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 2e-5
    layer_decay: float = 1.0
    warmup: float = 0.0
    schedule: Schedule = "linear"
    weight_decay: float = 0.01
    evaluate_every: int = 500
    patience: int | None = None
    seed: int = 42
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES[self.kind]:
            raise TrainingError(
                f"a {self.kind} cannot learn by {self.loss}", where=self.preset, hint=_of_kind(self.kind)
            )
        for name in ("max_length", "negatives", "epochs", "batch", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)}, not a number from 1 up", where=self.preset)
        if not 0 < self.learning_rate < 1:
            raise TrainingError(f"a learning rate of {self.learning_rate:g} trains nothing", where=self.preset)
        if self.layers is not None and (not self.layers or sorted(set(self.layers)) != list(self.layers)):
            raise TrainingError("the layers to keep must rise", where=self.preset)


def _of_kind(kind: Kind) -> str:
    return f"one of {', '.join(_LOSSES[kind])}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"cannot be read: {error}", where=path) from error


PRESETS: Mapping[str, Mapping[str, Any]] = _read(Path(__file__).with_name("presets.toml"))


def resolve_recipe(
    preset: str, kind: Kind, *, file: str | Path | None = None, flags: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a preset, changed by a TOML file, changed by flags (None: not given).

    Raises:
        TrainingError: no such preset, not of this kind, an unknown key or a value of a wrong type.
    """
    if preset not in PRESETS or PRESETS[preset]["kind"] != kind:
        known = [name for name, values in PRESETS.items() if values["kind"] == kind]
        raise TrainingError(f"no preset {preset!r} for a {kind}", hint=f"known: {', '.join(known)}")
    values: dict[str, Any] = {**PRESETS[preset]}
    if file is not None:
        values |= _checked(_read(Path(file)), str(file))
    values |= _checked({name: value for name, value in (flags or {}).items() if value is not None}, "flags")
    if isinstance(values.get("layers"), list):
        values["layers"] = tuple(values["layers"])
    return Recipe(**{**values, "preset": preset, "kind": kind})


_CHOICES = {"loss": get_args(Loss), "schedule": get_args(Schedule), "precision": ("auto", "fp32", "bf16", "fp16")}
_INTEGERS = frozenset(
    {"frozen", "max_length", "examples", "negatives", "epochs", "steps", "batch", "accumulate", "evaluate_every"}
    | {"patience", "seed"}
)
_NUMBERS = frozenset({"boost", "anchor", "learning_rate", "layer_decay", "warmup", "weight_decay"})


def _checked(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    known = {field.name for field in fields(Recipe)} - {"preset", "kind"}
    for name, value in values.items():
        if name not in known:
            raise TrainingError(f"no recipe has a {name!r}", where=where, hint=f"known: {', '.join(sorted(known))}")
        whole = isinstance(value, int) and not isinstance(value, bool)
        sound = (
            value in _CHOICES[name]
            if name in _CHOICES
            else whole
            if name in _INTEGERS
            else whole or isinstance(value, float)
            if name in _NUMBERS
            else isinstance(value, str | list | tuple)
        )
        if not sound:
            raise TrainingError(f"{name} cannot be {value!r}", where=where)
    return values

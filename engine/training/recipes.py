"""Recipes: every number of a training in one frozen record, by a preset's name, overridden by TOML and by flags."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import TrainingError

__all__ = ["PRESETS", "Kind", "Loss", "Recipe", "resolve_recipe"]

Kind = Literal["cross-encoder", "bi-encoder"]
Loss = Literal["binary", "listwise", "layerwise", "margin-mse", "contrastive"]
Schedule = Literal["linear", "constant", "cosine"]

_LOSSES: Mapping[Kind, tuple[Loss, ...]] = {
    "cross-encoder": ("binary", "listwise", "layerwise", "margin-mse"),
    "bi-encoder": ("contrastive", "margin-mse"),
}


_FROM_ONE = (
    "max_length",
    "examples",
    "epochs",
    "steps",
    "batch",
    "accumulate",
    "evaluate_every",
    "patience",
)
_SEEDS = 2**32
"""numpy's generator, which the trainer seeds too, takes no higher seed."""
_FROM_ZERO = ("negatives", "frozen", "boost", "anchor", "warmup", "weight_decay", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        preset: its name.
        kind: cross-encoder or bi-encoder.
        loss: `binary` cross-entropy of pairs, `listwise` against a teacher (ListNet, Cao et al. 2007), `layerwise`
            against the base that the student lost layers of (Jiao et al. 2020), `margin-mse` against a teacher
            (Hofstätter et al. 2020), or `contrastive` (InfoNCE, in-batch and mined negatives).
        base: name or folder of the model to start from.
        layers: which of the base's layers to keep, in order; None keeps all.
        start: a student that has these layers and has begun to learn (`layerwise`); None starts from the base's own.
        frozen: freezes the embeddings and so many of the lowest layers; None trains everything.
        bitfit: of the base, biases and layer norms alone learn (Ben Zaken et al. 2022); the matrices stay as they are.
        max_length: tokens of a pair, or of a text; no more are read than the base has positions for.
        examples: pairs (`binary`) or groups drawn per pass, at most; None takes what there is.
        negatives: per positive; with 0 a contrastive loss has those of the batch alone.
        redraw: whether each pass over the data draws other negatives; False repeats the same examples.
        boost: added to the teacher's score of a judged passage (`listwise`, `layerwise`).
        anchor: weight of the part that keeps a logit's level (`listwise`, `layerwise`).
        epochs, steps: how long; `steps`, where given, decides.
        batch: pairs, groups or triples of a batch.
        accumulate: batches per step of the optimiser.
        learning_rate: at its peak.
        layer_decay: learning rate of a layer, as a share of the next higher one's.
        warmup: steps if 1 or more, else a share of all steps.
        schedule: linear decay, constant, or cosine, after the warm-up.
        weight_decay: AdamW's.
        dropout: of all layers while they learn; None leaves the base its own. What learns from a teacher needs little,
            and on a CPU its random numbers cost as much as the products.
        temperature: divides the cosines of a contrastive loss.
        evaluate_every: steps between evaluations on dev questions, and between checkpoints.
        patience: evaluations without a better figure before training stops; None never stops.
        seed: of drawing, shuffling and initial weights.
        precision: auto (what the device is fast at), fp32, bf16 or fp16.
        data: what is learnt from, as `--data` names it.
        licence: of the model.
        data_licence: of the data, in words.
    """

    preset: str
    kind: Kind
    loss: Loss
    base: str
    layers: tuple[int, ...] | None = None
    start: str | None = None
    frozen: int | None = None
    bitfit: bool = False
    max_length: int = 512
    examples: int | None = None
    negatives: int = 4
    redraw: bool = True
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
    dropout: float | None = None
    temperature: float = 0.05
    evaluate_every: int = 500
    patience: int | None = None
    seed: int = 42
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    data: tuple[str, ...] = ()
    licence: str | None = None
    data_licence: str | None = None

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES[self.kind]:
            raise TrainingError(
                f"a {self.kind} cannot learn by {self.loss}", where=self.preset, hint=_of_kind(self.kind)
            )
        for name in _FROM_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainingError(f"{name} is {value}, not a number from 1 up", where=self.preset)
        for name in _FROM_ZERO:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise TrainingError(f"{name} is {value:g}, not a number from 0 up", where=self.preset)
        if self.seed >= _SEEDS:
            raise TrainingError(f"seed is {self.seed}, not below 2^32", where=self.preset)
        if not self.negatives and self.loss != "contrastive":
            raise TrainingError(f"{self.loss} needs negatives", where=self.preset)
        if self.loss == "layerwise" and self.layers is None:
            raise TrainingError("layerwise needs layers: those of the base that the student keeps", where=self.preset)
        if self.start is not None and self.loss != "layerwise":
            raise TrainingError(f"start is a student's, and {self.loss} trains the base", where=self.preset)
        if not 0 < self.learning_rate < 1:
            raise TrainingError(f"a learning rate of {self.learning_rate:g} trains nothing", where=self.preset)
        if not 0 < self.layer_decay <= 1:
            raise TrainingError(f"layer_decay is {self.layer_decay:g}, not in (0, 1]", where=self.preset)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise TrainingError(f"dropout is {self.dropout:g}, not in [0, 1)", where=self.preset)
        if not 0 < self.temperature < math.inf:
            raise TrainingError(f"temperature is {self.temperature:g}, not above 0", where=self.preset)
        if self.layers is not None and (
            not self.layers or sorted(set(self.layers)) != list(self.layers) or self.layers[0] < 0
        ):
            raise TrainingError("the layers to keep must rise, from 0 up", where=self.preset)

    def numbers(self) -> dict[str, Any]:
        """What was chosen, by name, JSON-able: for the model's card, and to tell one training from another."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}


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
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    for layer, where in ((_read(Path(file)) if file is not None else {}, str(file)), (given, "flags")):
        if "epochs" in layer:
            values.pop("steps", None)  # which would decide: whoever names epochs alone means them
        values |= _checked(layer, where)
    values |= {name: tuple(values[name]) for name in _LISTS if values.get(name) is not None}
    return Recipe(**{**values, "preset": preset, "kind": kind})


_CHOICES = {"loss": get_args(Loss), "schedule": get_args(Schedule), "precision": ("auto", "fp32", "bf16", "fp16")}
_LISTS: Mapping[str, type] = {"layers": int, "data": str}
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("base", "start", "licence", "data_licence"), (str,)),
    **dict.fromkeys((*_FROM_ONE, "negatives", "frozen", "seed"), (int,)),
    **dict.fromkeys(("boost", "anchor", "learning_rate", "layer_decay", "warmup"), (int, float)),
    **dict.fromkeys(("weight_decay", "dropout", "temperature"), (int, float)),
    **dict.fromkeys(("redraw", "bitfit"), (bool,)),
}


def _checked(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    known = {field.name for field in fields(Recipe)} - {"preset", "kind"}
    for name, value in values.items():
        if name not in known:
            raise TrainingError(f"no recipe has a {name!r}", where=where, hint=f"known: {', '.join(sorted(known))}")
        if not _is_sound(name, value):
            raise TrainingError(f"{name} cannot be {value!r}", where=where)
    return values


def _is_sound(name: str, value: object) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name in _LISTS:
        return isinstance(value, list | tuple) and all(type(one) is _LISTS[name] for one in value)
    return type(value) in _TYPES[name]  # a bool is an int, and no number of steps

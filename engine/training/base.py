"""The model that a training starts from: checked to be an encoder, cut to the layers wanted, its lower part frozen."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engine.errors import DependencyMissing, TrainingError
from engine.models import registry
from engine.models.architecture import read_json
from engine.training.recipes import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = ["check_base", "check_libraries", "fetch_base", "layers_of", "learning_rates", "longest", "prepare"]

_LIBRARIES = ("sentence_transformers", "accelerate", "datasets", "ir_measures", "matplotlib")
_LABELS = 2  # where config.json does not say
_STACKS = ("encoder.layer", "transformer.layer", "layers", "encoder.layers")


def check_libraries() -> None:
    """See that what a training needs is installed.

    Raises:
        DependencyMissing: it is not.
    """
    for name in _LIBRARIES:
        if find_spec(name) is None:
            raise DependencyMissing(f"{name} is not installed", hint="pip install 'fouille[train]'")


def check_base(recipe: Recipe) -> None:
    """See that the models a training starts from are encoders, before any data is read.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported, TrainingError: as `fetch_base` says.
    """
    for name in (recipe.base, recipe.start):
        if name is not None:
            fetch_base(name, recipe)


def fetch_base(name: str, recipe: Recipe) -> "Path":
    """The folder of a model that the recipe can start from.

    Raises:
        ModelNotFound: it is neither here nor to be had.
        ModelDamaged, ModelUnsupported: its files are incomplete, or pickled.
        TrainingError: it is a decoder, classifies into several labels, or has nothing to teach a student.
    """
    folder = registry.fetch(name)
    config = read_json(folder / "config.json") or {}
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    if config.get("is_encoder_decoder") or config.get("is_decoder") or not _is_encoder(str(kind)):
        raise TrainingError(
            f"is no encoder (its model type is {kind!r})", where=name, hint="take a model of the BERT family"
        )
    labels = config.get("id2label")
    has_head = any("ForSequenceClassification" in one for one in architectures)
    count = len(labels) if labels else _LABELS
    if has_head and count != 1:
        raise TrainingError(f"has {count} labels, not one score", where=name, hint="take its own base model")
    if recipe.loss == "layerwise" and not has_head:
        raise TrainingError("has no head that a student could learn from", where=name, hint="train it first")
    return folder


def _is_encoder(kind: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def prepare(model: Any, recipe: Recipe) -> None:
    """Cut and freeze a transformers model as the recipe says; in place.

    Raises:
        TrainingError: it has too few layers, or a student other layers than the recipe says.
    """
    model.float()
    name = recipe.start or recipe.base
    if recipe.start is not None:
        count, wanted = len(layers_of(model, name)), len(recipe.layers or ())
        if count != wanted:
            raise TrainingError(f"has {count} layers, not the {wanted} of the recipe", where=name)
    elif recipe.layers is not None:
        keep_layers(model, recipe.layers, name)
    if recipe.frozen is not None:
        freeze(model, recipe.frozen, name)
    if recipe.bitfit:
        freeze_matrices(model)
    if recipe.dropout is not None:
        set_dropout(model, recipe.dropout)


def keep_layers(model: Any, layers: Sequence[int], name: str) -> None:
    """Drop all layers but these; what a smaller student starts from (Sanh et al. 2019).

    Raises:
        TrainingError: the model has no such layer.
    """
    from torch import nn

    owner, attribute, stack = _stack(model, name)
    if layers[-1] >= len(stack):
        raise TrainingError(f"has {len(stack)} layers, none of number {layers[-1]} (from 0)", where=name)
    setattr(owner, attribute, nn.ModuleList([stack[number] for number in layers]))
    model.config.num_hidden_layers = len(layers)


def freeze(model: Any, layers: int, name: str) -> None:
    """Leave the embeddings and the lowest layers as they are.

    Raises:
        TrainingError: the model has fewer layers.
    """
    stack = layers_of(model, name)
    if layers > len(stack):
        raise TrainingError(f"has {len(stack)} layers, of which {layers} cannot be frozen", where=name)
    for module in (_base(model).embeddings, *stack[:layers]):
        module.requires_grad_(requires_grad=False)


def freeze_matrices(model: Any) -> None:
    """Leave every matrix and table below the head as it is, so that biases and layer norms alone learn."""
    for weight in _base(model).parameters():
        if weight.ndim > 1:
            weight.requires_grad_(requires_grad=False)


def set_dropout(model: Any, share: float) -> None:
    """Sets every dropout of the model to `share`; its configuration keeps the base's."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def longest(model: Any) -> int:
    """Tokens of the longest text that a transformers model has positions for."""
    table = getattr(getattr(_base(model), "embeddings", None), "position_embeddings", None)
    if table is None:
        return sys.maxsize
    padding = table.padding_idx  # RoBERTa and its kin count positions from there
    return int(table.num_embeddings) - (0 if padding is None else padding + 1)


def learning_rates(model: Any, recipe: Recipe) -> dict[str, float]:
    """Regular expression of parameter names -> learning rate, lower by `layer_decay` a layer downwards."""
    if recipe.layer_decay == 1.0:
        return {}
    frozen, count = recipe.frozen, len(layers_of(model, recipe.base))
    rates = {
        rf"layers?\.{number}\.": recipe.learning_rate * recipe.layer_decay ** (count - 1 - number)
        for number in range(frozen or 0, count)
    }
    return rates if frozen is not None else {**rates, r"embeddings\.": recipe.learning_rate * recipe.layer_decay**count}


def layers_of(model: Any, name: str) -> "nn.ModuleList":
    """The layers of a transformers model, lowest first.

    Raises:
        TrainingError: they are not where encoders have them.
    """
    return _stack(model, name)[2]


def _base(model: Any) -> Any:
    return getattr(model, model.base_model_prefix, model)


def _stack(model: Any, name: str) -> tuple[Any, str, "nn.ModuleList"]:
    """The module that owns the layers, the name it has for them, and the layers.

    Raises:
        TrainingError: they are not where encoders have them.
    """
    for path in _STACKS:
        owner, parts = _base(model), path.split(".")
        for part in parts[:-1]:
            owner = getattr(owner, part, None)
        found = getattr(owner, parts[-1], None)
        if found is not None:
            return owner, parts[-1], found
    raise TrainingError("its layers cannot be found, so none can be dropped or frozen", where=name)


def unloadable(error: Exception, name: str) -> TrainingError:
    """What a library says of a base that it cannot load, as one line."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return TrainingError(f"cannot be loaded as an encoder: {reason}", where=name)

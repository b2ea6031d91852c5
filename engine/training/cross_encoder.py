"""Fine-tuning a cross-encoder with sentence-transformers' trainer."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError, TrainingError
from engine.models import registry
from engine.training.examples import Group, sample
from engine.training.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder

__all__ = ["build", "dataset", "learning_rates", "loss"]


def build(recipe: Recipe, device: str) -> "CrossEncoder":
    """The model to train: the base with a head of one logit, its layers chosen, its lower part frozen.

    Raises:
        ModelNotFound: the base is neither here nor to be had.
        TrainingError: it is no encoder, or has too few layers.
    """
    from sentence_transformers import CrossEncoder

    folder = registry.fetch(recipe.base)
    try:
        model = CrossEncoder(
            str(folder), num_labels=1, max_length=recipe.max_length, device=device, local_files_only=True
        )
        stack = encoder_of(model.model).layer
    except (AttributeError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise TrainingError(f"is no encoder of the BERT family: {error}", where=recipe.base) from error
    model.model.float()
    if recipe.layers is not None:
        keep_layers(model.model, recipe.layers, recipe.base)
        stack = encoder_of(model.model).layer
    if recipe.frozen is not None:
        freeze(model.model, recipe.frozen)
        if recipe.frozen > len(stack):
            raise TrainingError(
                f"has {len(stack)} layers, of which {recipe.frozen} cannot be frozen", where=recipe.base
            )
    return model


def encoder_of(model: Any) -> Any:
    """The stack of layers of a transformers model of the BERT family."""
    return getattr(model, model.base_model_prefix, model).encoder


def keep_layers(model: Any, layers: Sequence[int], name: str) -> None:
    """Drop all layers but these; what a smaller student starts from (Sanh et al. 2019).

    Raises:
        TrainingError: the model has no such layer.
    """
    from torch import nn

    encoder = encoder_of(model)
    if layers[-1] >= len(encoder.layer):
        raise TrainingError(f"has {len(encoder.layer)} layers, none of number {layers[-1]}", where=name)
    encoder.layer = nn.ModuleList([encoder.layer[number] for number in layers])
    model.config.num_hidden_layers = len(layers)


def freeze(model: Any, layers: int) -> None:
    """Leave the embeddings and the lowest layers as they are."""
    base = getattr(model, model.base_model_prefix, model)
    frozen = [base.embeddings, *encoder_of(model).layer[:layers]]
    for module in frozen:
        module.requires_grad_(requires_grad=False)


def learning_rates(model: "torch.nn.Module", recipe: Recipe) -> dict[str, float]:
    """Regular expression of parameter names -> learning rate, lower by `layer_decay` a layer downwards."""
    if recipe.layer_decay == 1.0:
        return {}
    count = len(encoder_of(model).layer)
    return {
        rf"encoder\.layer\.{number}\.": recipe.learning_rate * recipe.layer_decay ** (count - 1 - number)
        for number in range(recipe.frozen or 0, count)
    }


def dataset(groups: Sequence[Group], recipe: Recipe) -> "Dataset":
    """Rows for the recipe's loss, drawn from the groups and shuffled, one pass after the other."""
    from datasets import Dataset

    random_ = random.Random(recipe.seed)
    draw = {"binary": _pairs, "listwise": _lists, "margin-mse": _triples}[recipe.loss]
    rows: list[dict[str, Any]] = []
    for _ in range(recipe.epochs):
        drawn = [row for group in groups for row in draw(group, recipe, random_)]
        random_.shuffle(drawn)
        rows += drawn[: recipe.examples]
    if not rows:
        raise TrainingError("the data hold nothing to learn from", hint="each group needs a positive and a negative")
    return Dataset.from_list(rows)


def _pairs(group: Group, recipe: Recipe, random_: random.Random) -> Iterator[dict[str, Any]]:
    drawn = sample(group, 1 + recipe.negatives, random_)
    for passage, label in zip(drawn.passages, drawn.labels, strict=True):
        yield {"question": group.question, "passage": passage, "label": float(label)}


def _lists(group: Group, recipe: Recipe, random_: random.Random) -> Iterator[dict[str, Any]]:
    drawn = sample(group, 1 + recipe.negatives, random_)
    if len(drawn.passages) < 2:
        return
    scores = drawn.scores or (0.0,) * len(drawn.passages)
    yield {
        "question": group.question,
        "passages": list(drawn.passages),
        "relevance": [float(label) for label in drawn.labels],
        "scores": [score + recipe.boost * label for score, label in zip(scores, drawn.labels, strict=True)],
    }


def _triples(group: Group, recipe: Recipe, random_: random.Random) -> Iterator[dict[str, Any]]:
    if not group.positives or group.scores is None:
        return
    drawn = sample(group, 1 + recipe.negatives, random_)
    assert drawn.scores is not None  # noqa: S101 - sampled from a group that has them
    for passage, score in zip(drawn.passages[1:], drawn.scores[1:], strict=True):
        yield {
            "question": group.question,
            "positive": drawn.passages[0],
            "negative": passage,
            "score": drawn.scores[0] - score,
        }


def loss(model: "CrossEncoder", recipe: Recipe) -> "torch.nn.Module":
    """The module that the trainer minimises."""
    from sentence_transformers.cross_encoder import losses

    from engine.training.losses import Listwise

    if recipe.loss == "binary":
        return losses.BinaryCrossEntropyLoss(model)
    if recipe.loss == "margin-mse":
        return losses.MarginMSELoss(model)
    return Listwise(model, anchor=recipe.anchor)


def check_base(path: str | Path) -> None:
    """See that a base is at hand before training data is read.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported: it is not.
    """
    try:
        registry.fetch(path)
    except ModelError:
        raise

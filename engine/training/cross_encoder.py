"""A cross-encoder to train: its base under a head of one logit, and the loss of the recipe."""

from typing import TYPE_CHECKING, Any

from engine.training.base import fetch_base, longest, prepare, unloadable
from engine.training.recipes import Recipe

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["build", "loss"]


def build(recipe: Recipe, device: str) -> "CrossEncoder":
    """The model to train, in fp32; a base without a head gets a random one, by the seed in force.

    Raises:
        ModelNotFound: the base is neither here nor to be had.
        TrainingError: it is no encoder, or has too few layers.
    """
    model = _loaded(recipe.start or recipe.base, recipe, device)
    prepare(model.model, recipe)
    return model


def _loaded(name: str, recipe: Recipe, device: str) -> "CrossEncoder":
    from sentence_transformers import CrossEncoder

    folder = fetch_base(name, recipe)
    try:
        model = CrossEncoder(
            str(folder), num_labels=1, max_length=recipe.max_length, device=device, local_files_only=True
        )
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise unloadable(error, name) from error
    model.max_seq_length = min(recipe.max_length, longest(model.model))
    return model


def loss(model: "CrossEncoder", recipe: Recipe) -> Any:
    """The module that the trainer minimises."""
    from sentence_transformers.cross_encoder import losses

    from engine.training.losses import Layerwise, Listwise

    if recipe.loss == "binary":
        return losses.BinaryCrossEntropyLoss(model)
    if recipe.loss == "margin-mse":
        return losses.MarginMSELoss(model)
    if recipe.loss == "layerwise":
        teacher = _loaded(recipe.base, recipe, str(model.device))
        teacher.model.float()
        return Layerwise(model, teacher, recipe.layers or (), anchor=recipe.anchor)
    return Listwise(model, anchor=recipe.anchor)

"""A bi-encoder to train: its base with the pooling and the prompts it has, and the loss of the recipe."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.models import registry
from engine.training.base import fetch_base, longest, prepare, unloadable
from engine.training.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["build", "loss", "prompts_of_columns"]


def build(recipe: Recipe, device: str) -> "SentenceTransformer":
    """The model to train, in fp32; a plain transformer gets mean pooling, a known one its prompts.

    Raises:
        ModelNotFound: the base is neither here nor to be had.
        TrainingError: it is no encoder, or has too few layers.
    """
    from sentence_transformers import SentenceTransformer

    folder = fetch_base(recipe.base, recipe)
    try:
        model = SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise unloadable(error, recipe.base) from error
    known = registry.describe(recipe.base)
    if known is not None and not any(model.prompts.values()):
        model.prompts = dict(known.prompts)
    if "passage" in model.prompts and not model.prompts.get("document"):
        model.prompts["document"] = model.prompts["passage"]  # the name that encode_document looks for
    lengths = (recipe.max_length, model.max_seq_length or recipe.max_length, longest(model[0].auto_model))
    model.max_seq_length = min(lengths)
    prepare(model[0].auto_model, recipe)
    return model


def prompts_of(model: "SentenceTransformer") -> tuple[str, str]:
    """What stands in front of a question and of a passage."""
    return model.prompts.get("query") or "", model.prompts.get("passage") or model.prompts.get("document") or ""


def prompts_of_columns(model: "SentenceTransformer", columns: list[str]) -> Mapping[str, str]:
    """The prompt in front of each text column of a row: of a query for the question, of a passage for the others."""
    query, passage = prompts_of(model)
    prompts = {name: query if name == "question" else passage for name in columns if name != "score"}
    return {name: prompt for name, prompt in prompts.items() if prompt}


def loss(model: "SentenceTransformer", recipe: Recipe) -> Any:
    """The module that the trainer minimises: InfoNCE (van den Oord et al. 2018), or a teacher's margins."""
    from sentence_transformers import util
    from sentence_transformers.sentence_transformer import losses

    if recipe.loss == "contrastive":
        return losses.MultipleNegativesRankingLoss(model, scale=1 / recipe.temperature)

    def similarity(questions: "torch.Tensor", passages: "torch.Tensor") -> "torch.Tensor":
        # Cosines differ by a few tenths, a teacher's logits by several units: the margins must be able to meet.
        cosines: torch.Tensor = util.pairwise_cos_sim(questions, passages)
        return cosines / recipe.temperature

    return losses.MarginMSELoss(model, similarity_fct=similarity)

"""sentence-transformers' trainers on rows of `Draws`. Importing this imports torch and transformers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from torch.utils.data import BatchSampler, DataLoader

from engine.training.bi_encoder import prompts_of
from engine.training.dev import MEASURES, DevSet

__all__ = [
    "BiEncoderOnDev",
    "BiEncoderTraining",
    "CrossEncoderOnDev",
    "CrossEncoderTraining",
    "bi_encoder_arguments",
    "cross_encoder_arguments",
]

_AT_ONCE = 64
"""Pairs or texts of an evaluation's batch."""


class _OnDraws:
    """What both trainers do differently: rows come from `Draws`, and the model's card is not theirs to write."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: `engine.training.card` writes the card, from the recipe."""

    def get_train_dataloader(self: Any) -> Any:
        """Batches of rows as they stand, which `Draws` has shuffled, shared out among processes by accelerate."""
        arguments, rows = self.args, self.train_dataset
        self.accelerator.even_batches = False  # as sentence-transformers sets it
        batches = BatchSampler(range(len(rows)), arguments.train_batch_size, arguments.dataloader_drop_last)
        loader = DataLoader(
            rows, batch_sampler=batches, collate_fn=self.data_collator, pin_memory=arguments.dataloader_pin_memory
        )
        return self.accelerator.prepare(loader)


class CrossEncoderTraining(_OnDraws, CrossEncoderTrainer):  # type: ignore[misc]
    """sentence-transformers' trainer of cross-encoders."""


class BiEncoderTraining(_OnDraws, SentenceTransformerTrainer):  # type: ignore[misc]
    """sentence-transformers' trainer of bi-encoders."""


class CrossEncoderOnDev(BaseEvaluator):  # type: ignore[misc]
    """Measures a cross-encoder on dev questions, as the trainer calls it."""

    def __init__(self, dev: DevSet) -> None:
        super().__init__()
        self.primary_metric, self._dev = MEASURES[0], dev

    def __call__(self, model: Any, **_: Any) -> dict[str, float]:
        """Means of `MEASURES`; the trainer's folder, epoch and step are of no use here."""
        return self._dev.measure(lambda pairs: _logits(model, pairs))


class BiEncoderOnDev(CrossEncoderOnDev):
    """Measures a bi-encoder on dev questions: candidates ordered by their cosine."""

    def __call__(self, model: Any, **_: Any) -> dict[str, float]:
        """Means of `MEASURES`; the trainer's folder, epoch and step are of no use here."""
        return self._dev.measure(lambda pairs: _cosines(model, pairs))


def _logits(model: Any, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    logits = model.predict(list(pairs), batch_size=_AT_ONCE, show_progress_bar=False, activation_fn=torch.nn.Identity())
    return np.asarray(logits, np.float32)


def _cosines(model: Any, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    sides = []
    for side, prompt in enumerate(prompts_of(model)):
        texts = list(dict.fromkeys(pair[side] for pair in pairs))
        vectors = model.encode(
            texts,
            prompt=prompt,
            batch_size=_AT_ONCE,
            show_progress_bar=False,
            normalize_embeddings=True,
        )
        row = {text: at for at, text in enumerate(texts)}
        sides.append(np.asarray(vectors, np.float32)[[row[pair[side]] for pair in pairs]])
    cosines: NDArray[np.float32] = np.einsum("pd,pd->p", *sides).astype(np.float32)
    return cosines


def cross_encoder_arguments(values: dict[str, Any]) -> Any:
    """sentence-transformers' arguments of a cross-encoder's training, on one device a process."""
    return _one_device(CrossEncoderTrainingArguments(**values))


def bi_encoder_arguments(values: dict[str, Any]) -> Any:
    """sentence-transformers' arguments of a bi-encoder's training, on one device a process."""
    return _one_device(SentenceTransformerTrainingArguments(**values))


def _one_device(arguments: Any) -> Any:
    # Without torchrun the trainer would spread batches over every GPU by torch's DataParallel, under which the losses
    # cannot reach the model's own methods.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments

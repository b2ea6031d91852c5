"""The losses that sentence-transformers lacks, as modules that its trainers take."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.training.base import layers_of

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["Layerwise", "Listwise"]

_STATES = 1 / 3
"""Weight of the states in `Layerwise`: enough to lead at first, little beside the logits in the end."""


class _Grouped(nn.Module):
    """A loss of groups. Pairs are sorted by length into blocks, since a group's longest passage would pad all others.

    Args:
        model: the cross-encoder that is trained.
        anchor: weight of the part that keeps a logit's level.
        block: pairs padded and computed together.
    """

    def __init__(self, model: "CrossEncoder", *, anchor: float = 0.1, block: int = 16) -> None:
        super().__init__()
        self.model, self.anchor, self.block = model, anchor, block

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {"anchor": self.anchor, "block": self.block}

    def _blocks(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], prompt: str | None, task: str | None
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Rows of the pairs, question by question, and their features on the model's device."""
        pairs = [(question, text) for question, texts in zip(questions, passages, strict=True) for text in texts]
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        for start in range(0, len(order), self.block):
            rows = order[start : start + self.block]
            features = self.model.preprocess([pairs[row] for row in rows], prompt=prompt, task=task)
            yield (
                rows,
                {name: value.to(self.model.device) for name, value in features.items() if torch.is_tensor(value)},
            )


class Listwise(_Grouped):
    """A group's softmax against its teacher's, and a little of the plain binary cross-entropy.

    The first part is ListNet (Cao et al. 2007) with a teacher's scores as the target, which is the KL divergence up to
    a constant; it says nothing of a logit's level. The second anchors that level, so that a sigmoid means something.
    """

    def forward(
        self, inputs: list[Any], labels: list[Tensor], prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            inputs: questions, then their lists of passages, lists of labels.
            labels: the teacher's scores, one tensor a question.
            prompt: for the model's preprocessing, as the trainer hands it to every loss.
            task: the same.
        """
        questions, passages, relevance = inputs
        blocks = self._blocks(questions, passages, prompt, task)
        logits = _in_order([(rows, _scores(self.model, features)) for rows, features in blocks])
        targets = torch.cat([torch.as_tensor(row, dtype=torch.float32) for row in relevance]).to(logits.device)
        binary = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        return _divergence(logits, torch.cat([row.to(logits) for row in labels]), passages) + self.anchor * binary


class Layerwise(_Grouped):
    """A student that keeps some of its base's layers against the base in full.

    Each layer of the student takes the place of itself and of those dropped above it, and learns to say what the last
    of these said, of every token (Jiao et al. 2020); the groups' softmax and, by `anchor`, the logits' level learn
    what the base's head says. The distance of states is in units of their variance.

    Args:
        model: the student.
        teacher: the base; not trained.
        layers: which of the base's layers the student keeps, rising.
        anchor: weight of the squared distance of logits.
        block: pairs padded and computed together.
    """

    def __init__(
        self, model: "CrossEncoder", teacher: "CrossEncoder", layers: Sequence[int], *, anchor: float, block: int = 16
    ) -> None:
        super().__init__(model, anchor=anchor, block=block)
        self.teacher = teacher.requires_grad_(requires_grad=False)
        self._stack = layers_of(model.model, "the student")
        whole = layers_of(teacher.model, "the teacher")
        self._ends = [whole[above - 1] for above in (*layers[1:], len(whole))]

    def forward(
        self, inputs: list[Any], labels: list[Tensor], prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            inputs: questions, then their lists of passages, lists of labels.
            labels: what is added to the teacher's logits, one tensor a question.
            prompt: for the model's preprocessing, as the trainer hands it to every loss.
            task: the same.
        """
        questions, passages, _relevance = inputs
        self.teacher.eval()
        found, wanted, distances = [], [], []
        for rows, features in self._blocks(questions, passages, prompt, task):
            with torch.no_grad(), _states(self._ends) as ends:
                wanted.append((rows, _scores(self.teacher, features)))
            with _states(self._stack) as states:
                found.append((rows, _scores(self.model, features)))
            distances.append(_distance(states, ends, features["attention_mask"].bool()) * len(rows))
        logits = _in_order(found)
        targets = _in_order(wanted) + torch.cat([row.to(logits) for row in labels])
        level = nn.functional.mse_loss(logits, targets)
        return _divergence(logits, targets, passages) + self.anchor * level + _STATES * sum(distances) / len(logits)


def _scores(model: "CrossEncoder", features: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(dict(features))["scores"]
    return found.view(-1).float()


def _in_order(found: Sequence[tuple[list[int], Tensor]]) -> Tensor:
    """Values of blocks, in the order of their rows."""
    values = torch.cat([values for _, values in found])
    rows = torch.tensor([row for rows, _ in found for row in rows], device=values.device)
    return values[torch.argsort(rows)]


def _divergence(logits: Tensor, targets: Tensor, passages: Sequence[Sequence[str]]) -> Tensor:
    """Mean over groups of the cross-entropy of their softmax against that of the targets."""
    sizes = [len(texts) for texts in passages]
    ranks = [
        nn.functional.cross_entropy(found, torch.softmax(wanted, dim=0))
        for found, wanted in zip(torch.split(logits, sizes), torch.split(targets, sizes), strict=True)
    ]
    return torch.stack(ranks).mean()


@contextmanager
def _states(layers: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What layers give back while the block runs: [pairs, tokens, hidden] each."""
    found: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: object, output: Any) -> None:
        found.append(output if torch.is_tensor(output) else output[0])

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _distance(states: Sequence[Tensor], ends: Sequence[Tensor], real: Tensor) -> Tensor:
    """Mean over layers of the squared distance; of the last layer's states only the first token's, which alone is read.

    Args:
        states: of the student, [pairs, tokens, hidden] each.
        ends: of the teacher, as many.
        real: bool[pairs, tokens], where there is no padding.
    """
    first = torch.zeros_like(real)
    first[:, 0] = True
    read = [real] * (len(states) - 1) + [first]
    distances = []
    for ours, theirs, tokens in zip(states, ends, read, strict=True):
        wanted = theirs[tokens].float()
        distances.append(nn.functional.mse_loss(ours[tokens].float(), wanted) / wanted.var())
    return torch.stack(distances).mean()

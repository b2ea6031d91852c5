"""The losses that sentence-transformers lacks, as modules that its trainers take."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["Listwise"]


class Listwise(nn.Module):
    """A group's softmax against its teacher's, and a little of the plain binary cross-entropy.

    The first part is ListNet (Cao et al. 2007) with a teacher's scores as the target, which is the KL divergence up to
    a constant; it says nothing of a logit's level. The second anchors that level, so that a sigmoid means something.
    Pairs are sorted by length into blocks, since a group's longest passage would pad all others.

    Args:
        model: the cross-encoder that is trained.
        anchor: weight of the binary part.
        block: pairs padded and computed together.
    """

    def __init__(self, model: "CrossEncoder", *, anchor: float = 0.1, block: int = 16) -> None:
        super().__init__()
        self.model, self.anchor, self.block = model, anchor, block

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
        sizes = [len(texts) for texts in passages]
        pairs = [(question, text) for question, texts in zip(questions, passages, strict=True) for text in texts]
        logits = self._logits(pairs, prompt, task)
        targets = torch.cat([torch.as_tensor(row, dtype=torch.float32) for row in relevance]).to(logits.device)
        binary = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        ranks = [
            nn.functional.cross_entropy(found, torch.softmax(teacher.to(found), dim=0))
            for found, teacher in zip(torch.split(logits, sizes), labels, strict=True)
        ]
        return torch.stack(ranks).mean() + self.anchor * binary

    def _logits(self, pairs: list[tuple[str, str]], prompt: str | None, task: str | None) -> Tensor:
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        found = []
        for start in range(0, len(order), self.block):
            block = [pairs[row] for row in order[start : start + self.block]]
            features = self.model.preprocess(block, prompt=prompt, task=task)
            features = {name: value.to(self.model.device) for name, value in features.items() if torch.is_tensor(value)}
            found.append(self.model(features)["scores"].view(-1).float())
        logits = torch.cat(found)
        return logits[torch.argsort(torch.tensor(order, device=logits.device))]

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {"anchor": self.anchor, "block": self.block}

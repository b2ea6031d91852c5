"""What the trainer reads, row by row: examples drawn from groups at the moment they are wanted."""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.ragged import ranges
from engine.training.examples import Group, group_of, record_of, sample
from engine.training.recipes import Recipe
from engine.training.spool import Spool

__all__ = ["Draws", "spooled"]


def spooled(groups: Iterable[Group], spool: Spool) -> Spool:
    """The groups on disk, all read and checked."""
    for group in groups:
        spool.append(record_of(group))
    return spool


class Draws:
    """A table of examples, pass after pass over the groups, each pass in an order of its own.

    Row i is a function of the recipe's seed and of i alone, so that a training goes on after an interruption, and on
    several devices, with the rows it would have had. Rows have the columns that the recipe's loss takes, in its order.
    Memory: 16 bytes a row of one pass.

    Args:
        groups: of `spooled`.
        recipe: how many to draw of which.
        world: processes that share the rows.

    Attributes:
        size: rows of one pass.
        passes: over the groups.
        unused: groups that give the recipe's loss nothing.
        undrawn: positives that a pass leaves out, where the loss takes one of each group.

    Raises:
        TrainingError: there is nothing to learn from.
    """

    def __init__(self, groups: Spool, recipe: Recipe, world: int = 1) -> None:
        self._groups, self._recipe = groups, recipe
        self._counts, self.undrawn = np.zeros(len(groups), np.int64), 0
        for row in range(len(groups)):
            group = self._group(row)
            self._counts[row] = _count(group, recipe)
            if recipe.loss != "binary" and self._counts[row]:
                self.undrawn += max(len(group.positives) - 1, 0)
        total = int(self._counts.sum())
        if not total:
            raise TrainingError("the data hold nothing to learn from", hint=_NEEDS[recipe.loss])
        self.unused = int((self._counts == 0).sum())
        self.size = min(total, recipe.examples or total)
        step = recipe.batch * recipe.accumulate * world
        wanted = recipe.steps * step if recipe.steps is not None else recipe.epochs * self.size
        self.passes = -(-wanted // self.size)
        if self.passes * self.size < step:
            self.passes = -(-step // self.size)  # less than one step's worth of data is repeated to fill it
        self._ordered: tuple[int, NDArray[np.int64]] | None = None

    @property
    def column_names(self) -> list[str]:
        """Column names of a row, the label last."""
        return list(self[0])

    def __len__(self) -> int:
        return self.passes * self.size

    def __getitem__(self, number: int) -> dict[str, Any]:
        turn, place = divmod(number, self.size)
        if not 0 <= turn < self.passes:
            raise IndexError(number)
        group, slot = self._order(turn)[place]
        seed = f"{self._recipe.seed}/{turn if self._recipe.redraw else 0}/{group}"
        rows = _drawn(self._group(int(group)), self._recipe, random.Random(seed))
        return next(islice(rows, int(slot), None))

    def _group(self, row: int) -> Group:
        return group_of(self._groups[row], f"group {row + 1}")

    def _order(self, turn: int) -> NDArray[np.int64]:
        """int64[size, 2]: group and place within the group's draw, in the order of one pass."""
        if self._ordered is None or self._ordered[0] != turn:
            chosen = np.random.default_rng([self._recipe.seed, turn if self._recipe.redraw else 0])
            groups = chosen.permutation(len(self._counts))
            counts = self._counts[groups]
            rows, slots = np.repeat(groups, counts), ranges(0, counts)
            # Whole groups first, then the order: so many negatives to a positive, however many are wanted in all.
            pairs = np.stack([rows, slots], axis=1)[: self.size]
            shuffled = np.random.default_rng([self._recipe.seed, turn, 1]).permutation(len(pairs))
            self._ordered = (turn, pairs[shuffled])
        return self._ordered[1]


_NEEDS: Mapping[str, str] = {
    "binary": "a group needs passages",
    "listwise": "a group needs two passages, and a label or a score to tell them apart",
    "layerwise": "a group needs two passages",
    "margin-mse": "a group needs a positive, a negative and a teacher's scores; --teacher gives them",
    "contrastive": "a group needs a positive and, unless --negatives 0, a negative",
}


def _count(group: Group, recipe: Recipe) -> int:
    """How many rows a draw from the group gives."""
    count = len(group.passages) - len(group.positives)
    if recipe.loss == "binary":
        return len(group.positives) + min(_size(group, recipe) - len(group.positives), count)
    positives = min(len(group.positives), 1)
    others = min(_size(group, recipe) - positives, count)
    if recipe.loss in ("listwise", "layerwise"):
        return int(positives + others >= 2)
    if recipe.loss == "margin-mse":
        return others if positives and group.scores is not None else 0
    return int(positives > 0 and (others > 0 or not recipe.negatives))


def _size(group: Group, recipe: Recipe) -> int:
    """Passages of a draw: pairs are judged one by one, so each positive has a row and negatives of its own."""
    return (1 + recipe.negatives) * (max(len(group.positives), 1) if recipe.loss == "binary" else 1)


def _drawn(group: Group, recipe: Recipe, random_: random.Random) -> Iterator[dict[str, Any]]:
    drawn = sample(group, _size(group, recipe), random_, every_positive=recipe.loss == "binary")
    if recipe.loss == "binary":
        for passage, label in zip(drawn.passages, drawn.labels, strict=True):
            yield {"question": group.question, "passage": passage, "label": float(label)}
    elif recipe.loss == "listwise":
        yield _list(drawn, recipe)
    elif recipe.loss == "layerwise":
        yield _list(replace(drawn, scores=None), recipe)  # the teacher reads them itself
    elif recipe.loss == "margin-mse":
        yield from _margins(drawn)
    else:
        # A group with too few repeats them: every row of a batch has the same columns.
        repeated = islice(cycle(drawn.passages[1:]), recipe.negatives)
        negatives = {f"negative_{place}": text for place, text in enumerate(repeated, 1)}
        yield {"question": group.question, "positive": drawn.passages[0], **negatives}


def _list(drawn: Group, recipe: Recipe) -> dict[str, Any]:
    scores = drawn.scores or (0.0,) * len(drawn.passages)
    return {
        "question": drawn.question,
        "passages": list(drawn.passages),
        "relevance": [float(label) for label in drawn.labels],
        "scores": [score + recipe.boost * label for score, label in zip(scores, drawn.labels, strict=True)],
    }


def _margins(drawn: Group) -> Iterator[dict[str, Any]]:
    scores = drawn.scores or ()
    for passage, score in zip(drawn.passages[1:], scores[1:], strict=True):
        texts = {"question": drawn.question, "positive": drawn.passages[0], "negative": passage}
        yield {**texts, "score": float(scores[0] - score)}

"""What a model learns from: groups of a question and judged passages, read from JSONL and sampled for a step.

One line of a file of groups, as `fouille mine` writes it:

    {"question": "...", "passages": ["...", "..."], "labels": [1, 0], "scores": [2.7, 1.9]}

`labels` are relevance in [0, 1]; `scores`, where they stand, are a teacher's opinion on any scale that is the same
for the passages of one question. A group without a positive needs scores.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from engine.errors import TrainingError
from engine.evaluation.corpora import json_lines

__all__ = [
    "POSITIVE",
    "Group",
    "checked_label",
    "checked_text",
    "group_of",
    "read_groups",
    "record_of",
    "sample",
    "take",
]

POSITIVE = 0.5
"""A passage with a higher label than this is relevant."""


@dataclass(frozen=True, slots=True)
class Group:
    """A question and passages that someone, or something, has judged for it.

    Attributes:
        question: its text.
        passages: texts, titles included, each as a model reads it.
        labels: relevance of each passage, in [0, 1].
        scores: a teacher's score of each passage, None where there is no teacher.
    """

    question: str
    passages: tuple[str, ...]
    labels: tuple[float, ...]
    scores: tuple[float, ...] | None = None

    @property
    def positives(self) -> list[int]:
        """Rows of the relevant passages."""
        return [row for row, label in enumerate(self.labels) if label > POSITIVE]


def read_groups(path: str | Path) -> Iterator[Group]:
    """Streams the groups of a JSONL file, plain or gzipped.

    Raises:
        TrainingError: a line is no group: a text is empty, a label lies outside [0, 1], lengths differ, or there is
            neither a positive nor a teacher's scores.
    """
    for number, record in json_lines(Path(path)):
        yield group_of(record, f"{path}:{number}")


def group_of(record: dict[str, Any], where: str) -> Group:
    """The group that a JSON record holds.

    Raises:
        TrainingError: it is none; `where` is named.
    """
    passages, labels, scores = (record.get(name) for name in ("passages", "labels", "scores"))
    question = checked_text(record.get("question"), "the question", where)
    if not isinstance(passages, list) or not passages:
        raise TrainingError("the group has no passages", where=where)
    texts = tuple(checked_text(passage, f"passage {row}", where) for row, passage in enumerate(passages, 1))
    if not isinstance(labels, list) or len(labels) != len(passages):
        raise TrainingError(f"{len(passages)} passages need as many labels", where=where)
    judged = tuple(checked_label(label, where) for label in labels)
    if scores is None:
        if max(judged) <= POSITIVE:
            raise TrainingError("the question has no positive and no scores: nothing to learn from", where=where)
        return Group(question, texts, judged)
    if not isinstance(scores, list) or len(scores) != len(passages) or not all(map(_is_number, scores)):
        raise TrainingError(f"{len(passages)} passages need as many scores", where=where)
    return Group(question, texts, judged, tuple(scores))


def record_of(group: Group) -> dict[str, Any]:
    """The JSON record of a group, as `group_of` reads it."""
    record = {"question": group.question, "passages": group.passages, "labels": group.labels}
    return record if group.scores is None else {**record, "scores": group.scores}


def checked_text(text: object, what: str, where: str) -> str:
    """The text itself.

    Raises:
        TrainingError: it is no text, blank, or holds half a surrogate pair, which no tokenizer takes.
    """
    if not isinstance(text, str) or not text.strip():
        raise TrainingError(f"{what} has no text", where=where)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X}"
        raise TrainingError(f"{what} holds a lone surrogate ({found})", where=where) from None
    return text


def checked_label(label: object, where: str) -> float:
    """The label as a number.

    Raises:
        TrainingError: it is none in [0, 1].
    """
    if not _is_number(label) or not 0 <= label <= 1:
        raise TrainingError(f"the label {label!r} is not a number in [0, 1]", where=where)
    return float(label)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sample(group: Group, size: int, random_: random.Random, *, every_positive: bool = False) -> Group:
    """At most `size` passages of a group: a positive, then negatives, near ones more often than far ones.

    The order of a group's negatives is the order of the first stage that found them, hardest first. Half of those
    drawn come from the first quarter, half from the rest, so that a step sees hard ones and easy ones.

    Args:
        group: to draw from.
        size: as many passages, or all that there are; with all positives, no fewer than these.
        random_: draws.
        every_positive: take all positives, not one of them.
    """
    positives = group.positives
    first = positives if every_positive else [random_.choice(positives)] if positives else []
    others = [row for row in range(len(group.passages)) if row not in positives]
    wanted = min(size - len(first), len(others))
    near, far = others[: max(len(others) // 4, 1)], others[max(len(others) // 4, 1) :]
    half = (wanted + random_.randrange(2)) // 2
    hard = random_.sample(near, min(max(half, wanted - len(far)), len(near)))
    rest = random_.sample(far, min(wanted - len(hard), len(far)))
    return take(group, [*first, *hard, *rest])


def take(group: Group, rows: Sequence[int]) -> Group:
    """The group of these passages alone."""
    return Group(
        group.question,
        tuple(group.passages[row] for row in rows),
        tuple(group.labels[row] for row in rows),
        None if group.scores is None else tuple(group.scores[row] for row in rows),
    )

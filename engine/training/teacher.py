"""A teacher's scores for groups that have none: a cross-encoder reads them as they stream by."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from engine.records import Progress
from engine.training.examples import Group

if TYPE_CHECKING:
    from engine.models import CrossEncoder

__all__ = ["taught"]

_GROUPS_AT_ONCE = 64


def taught(groups: Iterable[Group], teacher: "CrossEncoder", progress: Progress | None = None) -> Iterator[Group]:
    """The groups with the teacher's logits as scores, in the place of any they had.

    Args:
        groups: streamed, some at a time.
        teacher: a cross-encoder.
        progress: called with ("teaching", groups, None).
    """
    left, done = iter(groups), 0
    while block := list(islice(left, _GROUPS_AT_ONCE)):
        pairs = [(group.question, passage) for group in block for passage in group.passages]
        logits = iter(teacher.score_pairs(pairs, activation="none").tolist())
        for group in block:
            yield replace(group, scores=tuple(islice(logits, len(group.passages))))
        done += len(block)
        if progress:
            progress("teaching", done, None)

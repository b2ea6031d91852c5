"""Question-passage pairs from stored tokens: truncation and assembly by arrays, with no Python loop over tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidOption
from engine.models.batch import PackedBatch
from engine.models.tokenization import LONGEST_KEPT, Template
from engine.ragged import offsets_of, ranges
from engine.records import LongPassages, Ragged

__all__ = ["Sequences", "longest_first", "pair_sequences", "room_for_text", "single_sequences"]

Lengths = NDArray[np.int64]


def longest_first(first: Lengths, second: Lengths, room: int) -> tuple[Lengths, Lengths]:
    """How many tokens of each text of a pair are kept, as the `longest_first` of `tokenizers` decides.

    The shorter text is kept whole where it takes at most half of the room, and the longer one gets the rest; else both
    are halved, the second getting the odd token, or the first where it is the longer.

    Args:
        first: int64[n], tokens of each first text.
        second: int64[n], tokens of each second text.
        room: tokens for both, special tokens not counted.

    Returns:
        int64[n] and int64[n], tokens kept.
    """
    shorter = np.minimum(first, second)
    low = np.minimum(shorter, room // 2)
    high = room - low
    fits = first + second <= room
    first_is_longer = first > second
    kept_first = np.where(fits, first, np.where(first_is_longer, high, low))
    kept_second = np.where(fits, second, np.where(first_is_longer, low, high))
    return kept_first, kept_second


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences to run, as slices of stored tokens; assembled a batch at a time.

    Attributes:
        template: where the special tokens stand.
        sources: the tokens that each text of the template is cut from, one-dimensional.
        starts: int64[n, texts], where each slice begins in its source.
        counts: int64[n, texts], how many tokens it has.
    """

    template: Template
    sources: tuple[NDArray[Any], ...]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def lengths(self) -> Lengths:
        """int64[n], tokens of each sequence with its special tokens."""
        lengths: Lengths = self.counts.sum(axis=1) + self.template.specials
        return lengths

    def pack(self, rows: NDArray[np.intp]) -> PackedBatch:
        """Assemble the sequences of these rows, in this order."""
        template, counts, sources_at = self.template, self.counts[rows], self.starts[rows]
        lengths = counts.sum(axis=1) + template.specials
        starts = offsets_of(lengths)
        tokens = np.empty(starts[-1], np.int32)
        at = starts[:-1].copy()
        for place, gap in enumerate(template.gaps):
            for token in gap:
                tokens[at] = token
                at += 1
            if place < len(self.sources):
                count = counts[:, place]
                tokens[ranges(at, count)] = self.sources[place][ranges(sources_at[:, place], count)]
                at += count
        types = self._types(counts) if template.has_types else None
        return PackedBatch(tokens, types, starts.astype(np.int32), int(lengths.max(initial=0)))

    def _types(self, counts: NDArray[np.int64]) -> NDArray[np.int32]:
        """Token types of the sequences with these counts: runs of one type, repeated over the rows."""
        kinds: list[int] = []
        runs: list[NDArray[np.int64]] = []
        ones = np.ones(len(counts), np.int64)
        for place, gap in enumerate(self.template.gap_types):
            kinds += gap
            runs += [ones] * len(gap)
            if place < len(self.sources):
                kinds.append(self.template.text_types[place])
                runs.append(counts[:, place])
        return np.repeat(np.tile(np.array(kinds, np.int32), len(counts)), np.column_stack(runs).ravel())


def single_sequences(template: Template, texts: Ragged, limit: int) -> Sequences:
    """Each text alone, cut to the limit.

    Args:
        template: of one text.
        texts: tokens without special ones.
        limit: tokens of a sequence, special ones included.

    Raises:
        InvalidOption: the limit leaves no room for text.
    """
    room = room_for_text(template, limit, texts=1)
    counts = np.minimum(np.diff(texts.offsets), room)
    return Sequences(template, (texts.values,), texts.offsets[:-1, None].astype(np.int64), counts[:, None])


def pair_sequences(
    template: Template,
    questions: Ragged,
    passages: Ragged,
    pairs: NDArray[np.integer[Any]],
    limit: int,
    long_passages: LongPassages = "truncate",
) -> tuple[Sequences, NDArray[np.intp], NDArray[np.bool_]]:
    """Sequences for pairs of a question and a passage.

    Args:
        template: of a pair.
        questions: tokens without special ones, one row a question.
        passages: tokens without special ones, one row a passage.
        pairs: integers[p, 2], rows of the question and of the passage.
        limit: tokens of a sequence, special ones included.
        long_passages: `truncate` cuts as the tokenizer does; `maxp` makes a sequence of each window of a passage that
            does not fit, half a window apart (Dai and Callan 2019), the last one ending where the passage ends.

    Returns:
        The sequences; intp[len(sequences)], the pair that each belongs to, ascending; bool[p], whether tokens of the
        pair's passage are read by none of its sequences.

    Raises:
        InvalidOption: the limit leaves no room for two texts.
    """
    room = room_for_text(template, limit, texts=2)
    question_at = questions.offsets[pairs[:, 0]].astype(np.int64)
    passage_at = passages.offsets[pairs[:, 1]].astype(np.int64)
    passage_counts = passages.offsets[pairs[:, 1] + 1] - passage_at
    kept_question, kept_passage = longest_first(questions.offsets[pairs[:, 0] + 1] - question_at, passage_counts, room)
    owners = np.arange(len(pairs), dtype=np.intp)
    cut = kept_passage < passage_counts
    capped = passage_counts >= LONGEST_KEPT
    if long_passages == "maxp" and cut.any():
        stride = np.maximum(kept_passage // 2, 1)
        beyond = passage_counts - kept_passage
        windows = np.where(cut, -(-beyond // stride) + 1, 1)
        owners = np.repeat(owners, windows)
        step = ranges(0, windows) * stride[owners]
        passage_at = passage_at[owners] + np.minimum(step, beyond[owners])
        question_at, kept_question, kept_passage = question_at[owners], kept_question[owners], kept_passage[owners]
        cut = np.zeros_like(cut)
    cut |= capped
    starts = np.column_stack([question_at, passage_at])
    counts = np.column_stack([kept_question, kept_passage])
    return Sequences(template, (questions.values, passages.values), starts, counts), owners, cut


def room_for_text(template: Template, limit: int, *, texts: int) -> int:
    """Tokens that special ones leave of a sequence.

    Raises:
        InvalidOption: fewer than one for each text.
    """
    room = limit - template.specials
    if room < texts:
        raise InvalidOption(
            f"a maximum length of {limit} tokens leaves no room beside {template.specials} special ones",
            where="max_length",
            hint=f"give {template.specials + texts} or more",
        )
    return room

"""The second stage: a cross-encoder reads a question and a passage together and gives one logit."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidOption, ModelUnsupported
from engine.models import draft as drafts
from engine.models import pairs as assembly
from engine.models import planner, registry, roles
from engine.models.architecture import read_json
from engine.models.crossencoder_config import (
    ScoreActivation,
    check_labels,
    default_activation,
    recommended_candidates,
    recommended_weights,
    refuse_prompt,
)
from engine.models.tokenization import TextTokenizer, length_limit
from engine.overlap import ahead
from engine.records import FirstStage, LongPassages, Ragged, Ranking

__all__ = ["CrossEncoder", "PairScorer", "Scores", "TopScores", "sigmoid"]

_PAIRS_AT_ONCE = 2048
_TEXTS_OF_A_PAIR = 2


class Scores(NamedTuple):
    """Scores of pairs.

    Attributes:
        logits: float32[p].
        truncated: bool[p], whether part of the pair's passage was not read.
    """

    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]


class TopScores(NamedTuple):
    """Scores of pairs of which only each question's first k matter.

    Attributes:
        logits: float32[p].
        truncated: bool[p], whether part of the pair's passage was not read.
        drafted: bool[p], whether the logit is the rough one of a draft; no such pair is among its question's first k.
    """

    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    drafted: NDArray[np.bool_]


class PairScorer(Protocol):
    """How a cross-encoder is run: on packed tokens, or through sentence-transformers."""

    max_length: int
    device: str

    @property
    def precision(self) -> str:
        """Precision of its scores."""

    @property
    def draft_precision(self) -> str | None:
        """Precision of the drafts that it can make, None when it makes none."""

    def drafts_pay(self, tokens: int) -> bool:
        """Whether a draft of that many tokens saves time, where drafts can be made."""

    @property
    def tokenizer_hash(self) -> str:
        """Key of what is stored of passages."""

    def tokenize_passages(self, texts: Sequence[str]) -> Ragged:
        """What is stored of passages."""

    def score(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: NDArray[np.integer[Any]],
        long_passages: LongPassages,
        *,
        draft: bool = False,
    ) -> Scores:
        """Logits of pairs, integers[p, 2] of question and passage rows; rough ones for a draft."""


class CrossEncoder:
    """A cross-encoder with one logit, sigmoid for a score.

    Scores equal those of `sentence_transformers.CrossEncoder(...).predict` up to rounding. Models of the BERT family
    (BERT, XLM-R, RoBERTa, CamemBERT, ELECTRA) run on packed tokens; any other one through sentence-transformers.

    Precision `auto` gives fp32's scores on a CPU. Where the processor gains by bf16, `rank` and `score_top`, of which
    only the first k matter, draft all scores in bf16 and compute in fp32 those that can stand among the first k, once
    there is enough to score to be worth torch's import. On a GPU `auto` is fp16, whose rounding may swap close
    neighbours. Any other precision holds for all scores.

    Args:
        name_or_path: a folder, or a name on the Hugging Face hub.
        device: auto, cpu, cuda, cuda:1, ...
        precision: auto, fp32, bf16, fp16 or int8.
        max_length: tokens of a pair, when fewer than the model allows.
        batch_tokens: tokens of a batch, when other than the device's own choice.

    Attributes:
        name: as given.
        folder: where the model lies.
        max_length: tokens of a pair, special tokens included.
        precision: of its scores.
        draft_precision: of the drafts behind `rank` and `score_top`, None where there are none.
        tokenizer_hash: of what decides the tokens of a passage; stored tokens are keyed by it.
        default_activation: what the model's folder says turns a logit into a score.
        default_candidates: how many candidates the model's `config.json` recommends to rerank
            (`{"fouille": {"candidates": N}}`), None when it says nothing.
        notices: lines that a person should read once.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported: the model cannot be had or run.
        DeviceError, InvalidOption: the device, precision or length cannot be had.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        device: str = "auto",
        precision: str = "auto",
        *,
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise InvalidOption(f"{batch_tokens} tokens hold no pair", where="batch_tokens")
        self.name = str(name_or_path)
        self.folder = registry.fetch(name_or_path)
        roles.check_reranker(self.folder)
        config = read_json(self.folder / "config.json") or {}
        if isinstance(names := config.get("id2label"), dict):
            check_labels(self.folder, len(names))
        self.default_activation: ScoreActivation = default_activation(self.folder, config)
        self._interpolate = recommended_weights(self.folder, config)
        self.default_candidates: int | None = recommended_candidates(self.folder, config)
        self.notices: tuple[str, ...] = ()
        self._scorer = self._load(device, precision, max_length, batch_tokens)
        self.max_length = self._scorer.max_length
        self.device = self._scorer.device
        self.precision = self._scorer.precision
        self.draft_precision = self._scorer.draft_precision

    def _load(self, device: str, precision: str, max_length: int | None, batch_tokens: int | None) -> PairScorer:
        try:
            return PackedScorer(self.folder, device, precision, max_length, batch_tokens)
        except ModelUnsupported as error:
            from engine.models.fallback import SentenceTransformersScorer

            scorer = SentenceTransformersScorer(self.folder, device, precision, max_length)
            self.notices = (f"{self.name} runs through sentence-transformers, slower: {error.what}",)
            return scorer

    @property
    def hash(self) -> str:
        """Content hash of weights, tokenizer and configuration; 32 hexadecimal digits."""
        return registry.model_hash(self.folder)

    def recommended_interpolate(self, first_stage: FirstStage | None = None) -> float | None:
        """The weight of the first stage's score that the model's `config.json` recommends, None when it says nothing.

        `{"fouille": {"interpolate": W}}`, or `{"bm25": W, "hybrid": W}` for W: a first stage that is not named there,
        or that nobody knows (None), gets the least of them.
        """
        return self._interpolate.get(first_stage, self._interpolate.get(None))

    @property
    def tokenizer_hash(self) -> str:
        """Key of the tokens that `tokenize_passages` gives."""
        return self._scorer.tokenizer_hash

    def tokenize_passages(self, texts: Sequence[str]) -> Ragged:
        """Tokens of passages, to be stored and scored later.

        Returns:
            Ragged of uint16, or uint32 where the vocabulary needs it, without special tokens; one row a text.
        """
        return self._scorer.tokenize_passages(texts)

    def score_tokens(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: NDArray[np.integer[Any]],
        *,
        long_passages: LongPassages = "truncate",
    ) -> Scores:
        """Score pairs of many questions in one stream of full batches.

        Args:
            questions: texts.
            passages: what `tokenize_passages` gave, one row a passage.
            pairs: integers[p, 2], row of the question and row of the passage.
            long_passages: `truncate` as the tokenizer does, or `maxp`: score windows, keep the best.

        Raises:
            DeviceError: the device's memory does not hold a single pair.
        """
        return self._scorer.score(questions, passages, pairs, long_passages)

    def score_top(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: NDArray[np.integer[Any]],
        k: int,
        *,
        added: NDArray[np.float32] | None = None,
        long_passages: LongPassages = "truncate",
    ) -> TopScores:
        """Score pairs of which only each question's first k matter: those are as `score_tokens` gives them.

        The others stand below them, and may have the rough logit of a draft; see `engine.models.draft` for how surely.

        Args:
            questions: texts.
            passages: what `tokenize_passages` gave, one row a passage.
            pairs: integers[p, 2], row of the question and row of the passage.
            k: how many of each question matter.
            added: float32[p], added to each logit before a question's pairs are put in order; None: nothing.
            long_passages: see `score_tokens`.

        Raises:
            InvalidOption: k is less than 1.
            DeviceError: the device's memory does not hold a single pair.
        """
        if k < 1:
            raise InvalidOption(f"{k} is less than 1", where="k")
        if not self._drafts_pay(passages, pairs):
            scores = self.score_tokens(questions, passages, pairs, long_passages=long_passages)
            return TopScores(*scores, np.zeros(len(pairs), np.bool_))
        truncated = np.zeros(len(pairs), np.bool_)

        def score(rows: NDArray[np.intp], *, draft: bool) -> NDArray[np.float32]:
            found = self._scorer.score(questions, passages, pairs[rows], long_passages, draft=draft)
            truncated[rows] = found.truncated
            return found.logits

        added = np.zeros(len(pairs), np.float32) if added is None else added
        settled = drafts.settle(
            pairs[:, 0], added, k, draft=partial(score, draft=True), exact=partial(score, draft=False)
        )
        return TopScores(settled.logits, truncated, settled.drafted)

    def _drafts_pay(self, passages: Ragged, pairs: NDArray[np.integer[Any]]) -> bool:
        if self.draft_precision is None:
            return False
        tokens = np.diff(passages.offsets)[pairs[:, 1]].clip(max=self.max_length).sum()
        return self._scorer.drafts_pay(int(tokens))

    def rank(
        self, question: str, passages: Sequence[str], k: int = 10, *, activation: ScoreActivation | None = None
    ) -> Ranking:
        """The k best passages for a question, with the scores that `score` gives them; faster than scoring all.

        Args:
            question: text.
            passages: texts.
            k: how many are wanted.
            activation: see `score`.

        Returns:
            Rows of `passages` as ids, int64[min(k, n)], best first, ties by row; and their scores.

        Raises:
            InvalidOption: k is less than 1, or one passage, not several.
        """
        questions, tokens, pairs = self._prepare(_paired(question, passages))
        logits = self.score_top(questions, tokens, pairs, k).logits
        best = np.argsort(-logits, kind="stable")[:k]
        return Ranking(best.astype(np.int64), self._activated(logits[best], activation))

    def score(
        self, question: str, passages: Sequence[str], *, activation: ScoreActivation | None = None
    ) -> NDArray[np.float32]:
        """Scores of passages for one question, float32[n].

        Args:
            question: text.
            passages: texts.
            activation: `sigmoid`, `none` for logits, or None for what the model's folder says.

        Raises:
            InvalidOption: one passage, not several.
        """
        return self.score_pairs(_paired(question, passages), activation=activation)

    def score_pairs(
        self, pairs: Sequence[tuple[str, str]], *, activation: ScoreActivation | None = None
    ) -> NDArray[np.float32]:
        """Scores of (question, passage) pairs, float32[n]; a text that returns is tokenised once a block of pairs.

        Raises:
            InvalidOption: one of them is no pair, or holds something that is no text.
        """
        logits = np.empty(len(pairs), np.float32)
        blocks = (slice(start, start + _PAIRS_AT_ONCE) for start in range(0, len(pairs), _PAIRS_AT_ONCE))
        for block, (questions, passages, rows) in ahead(blocks, lambda block: self._prepare(pairs[block])):
            logits[block] = self.score_tokens(questions, passages, rows).logits
        return self._activated(logits, activation)

    def _activated(self, logits: NDArray[np.float32], activation: ScoreActivation | None) -> NDArray[np.float32]:
        activation = activation or self.default_activation
        if activation not in get_args(ScoreActivation):
            raise InvalidOption(f"{activation!r} is not one of sigmoid, none", where="activation")
        return logits if activation == "none" else sigmoid(logits)

    def _prepare(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[str], Ragged, NDArray[np.int64]]:
        """Distinct questions, tokens of distinct passages, and the rows of each pair."""
        for row, pair in enumerate(pairs):
            if isinstance(pair, str) or len(pair) != _TEXTS_OF_A_PAIR:
                raise InvalidOption(f"{pair!r}, in row {row}, is no question with a passage", where="pairs")
        questions: dict[str, int] = {}
        passages: dict[str, int] = {}
        rows = [
            (questions.setdefault(question, len(questions)), passages.setdefault(passage, len(passages)))
            for question, passage in pairs
        ]
        return list(questions), self.tokenize_passages(list(passages)), np.array(rows, np.int64).reshape(-1, 2)


class PackedScorer:
    """Runs a cross-encoder of the BERT family on packed tokens; see `PairScorer`."""

    def __init__(
        self, folder: Path, device: str, precision: str, max_length: int | None, batch_tokens: int | None
    ) -> None:
        refuse_prompt(folder)
        from engine.models.model import Model

        self._model = Model(folder, task="classify", device=device)
        self.precision, self.draft_precision = self._model.precisions(precision)
        architecture = self._model.architecture
        check_labels(folder, architecture.labels)
        self._tokenizer = TextTokenizer(folder)
        self._template = self._tokenizer.pair_template()
        self._tokenizer.check_fits(self._template, architecture.vocabulary, architecture.types)
        self.max_length = length_limit(folder, architecture.max_length, max_length)
        assembly.room_for_text(self._template, self.max_length, texts=2)
        self._budget = batch_tokens
        self.device = self._model.device
        # What comes first is loaded now, the other once a pair is scored in it.
        drafts = self.draft_precision if self.draft_precision and self._model.drafts_pay(0) else None
        self._model.runtime(drafts or self.precision)

    def drafts_pay(self, tokens: int) -> bool:
        return self._model.drafts_pay(tokens)

    @property
    def tokenizer_hash(self) -> str:
        return self._tokenizer.hash

    def tokenize_passages(self, texts: Sequence[str]) -> Ragged:
        return self._tokenizer.tokenize(texts)

    def score(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: NDArray[np.integer[Any]],
        long_passages: LongPassages,
        *,
        draft: bool = False,
    ) -> Scores:
        if not len(pairs):
            return Scores(np.empty(0, np.float32), np.empty(0, np.bool_))
        sequences, owners, truncated = assembly.pair_sequences(
            self._template, self._tokenizer.tokenize(questions), passages, pairs, self.max_length, long_passages
        )
        runtime = self._model.runtime(self.draft_precision if draft and self.draft_precision else self.precision)
        budget = self._budget or runtime.preferred_batch_tokens
        found = planner.run(runtime, sequences.lengths, sequences.pack, budget)[:, 0]
        if len(owners) == len(pairs):
            return Scores(found, truncated)
        logits = np.full(len(pairs), -np.inf, np.float32)
        np.maximum.at(logits, owners, found)
        return Scores(logits, truncated)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) in float32, without overflow."""
    scores: NDArray[np.float32] = np.exp(-np.logaddexp(np.float32(0), -logits))
    return scores


def _paired(question: str, passages: Sequence[str]) -> list[tuple[str, str]]:
    if isinstance(passages, str):
        raise InvalidOption("one passage, not several", where="passages", hint="put it in a list")
    return [(question, passage) for passage in passages]

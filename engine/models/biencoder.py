"""The dense first stage: a bi-encoder turns questions and passages into unit vectors, compared by inner product."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidOption, ModelDamaged, ModelUnsupported
from engine.models import pairs as assembly
from engine.models import planner, registry, roles
from engine.models.architecture import read_json
from engine.models.tokenization import TextTokenizer, check_texts, length_limit
from engine.overlap import ahead
from engine.records import Precision

__all__ = ["BiEncoder", "Prompts", "TextEncoder"]

_WINDOW, _CPU_WINDOW = 4_096, 512


Label = TypeVar("Label")
Windows = Iterable[tuple[Label, Sequence[str]]]
"""Texts to encode, in portions; a label comes back with the vectors of its portion."""


class Prompts(NamedTuple):
    """Text in front of every question and every passage, as the model was trained with."""

    query: str = ""
    passage: str = ""


class TextEncoder(Protocol):
    """How a bi-encoder is run: on packed tokens, or through sentence-transformers."""

    dimension: int
    device: str

    @property
    def precision(self) -> str:
        """Precision of the vectors of passages."""

    def encode(
        self, windows: Windows[Label], prompt: str, progress: Callable[[int], None] | None, *, exact: bool = False
    ) -> Iterator[tuple[Label, NDArray[np.float32]]]:
        """Each window's label, and unit vectors of `prompt + text` for its texts, float32[n, dimension].

        `exact` asks for fp32 on a CPU where the precision is `auto`.
        """


class BiEncoder:
    """A bi-encoder, in the folder format of sentence-transformers.

    Vectors equal those of `SentenceTransformer(...).encode(..., normalize_embeddings=True)` up to rounding. Precision
    `auto` is the fastest: for passages bf16 on a CPU that gains by it, fp16 on a GPU, else fp32. bf16 changed cosines
    by 0.0002 on the mean square and 0.001 at most, where those of one question spread by 0.018 (a
    multilingual-e5-small, 40 questions and 300 passages of piaf): no first hit, the order of the first ten for half of
    the questions, and 1 in 80 of the passages among them.

    Args:
        name_or_path: a folder, or a name on the Hugging Face hub.
        device: auto, cpu, cuda, cuda:1, ...
        precision: auto, fp32, bf16, fp16 or int8.
        max_length: tokens of a text, when fewer than the model allows.
        batch_tokens: tokens of a batch, when other than the device's own choice.

    Attributes:
        name: as given.
        folder: where the model lies.
        prompts: the folder's own, else those of the registry, else none.
        dimension: of a vector.
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
            raise InvalidOption(f"{batch_tokens} tokens hold no text", where="batch_tokens")
        self.name = str(name_or_path)
        self.folder = registry.fetch(name_or_path)
        roles.check_encoder(self.folder)
        self.prompts = _prompts(self.folder, self.name)
        self.notices: tuple[str, ...] = ()
        self._encoder = self._load(device, precision, max_length, batch_tokens)
        self.dimension = self._encoder.dimension
        self.device = self._encoder.device
        self.precision = self._encoder.precision

    def _load(self, device: str, precision: str, max_length: int | None, batch_tokens: int | None) -> TextEncoder:
        try:
            return PackedEncoder(self.folder, device, precision, max_length, batch_tokens)
        except ModelUnsupported as error:
            from engine.models.fallback import SentenceTransformersEncoder

            encoder = SentenceTransformersEncoder(self.folder, device, precision, max_length)
            self.notices = (f"{self.name} runs through sentence-transformers, slower: {error.what}",)
            return encoder

    @property
    def hash(self) -> str:
        """Content hash of weights, tokenizer and configuration; 32 hexadecimal digits."""
        return registry.model_hash(self.folder)

    @property
    def window(self) -> int:
        """Texts of a portion for `encode_windows`: some seconds of this device's work, among which to find batches."""
        return _CPU_WINDOW if self.device == "cpu" else _WINDOW

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of questions, float32[n, dimension].

        Raises:
            InvalidOption: one text, not several, or something that is no text.
        """
        return self._encode(texts, self.prompts.query, None, exact=True)

    def encode_passages(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors of passages, float32[n, dimension].

        Args:
            texts: the passages, titles included.
            progress: called with the number of passages encoded since the last call.
        """
        return self._encode(texts, self.prompts.passage, progress)

    def encode_windows(
        self, windows: Windows[Label], progress: Callable[[int], None] | None = None
    ) -> Iterator[tuple[Label, NDArray[np.float32]]]:
        """Vectors of passages that come in portions: the next one is read and tokenised while one is computed.

        Args:
            windows: a label and the texts of some passages, titles included; taken in another thread.
            progress: called with the number of passages encoded since the last call.

        Returns:
            In order, each label and float32[n, dimension].
        """
        return self._encoder.encode(windows, self.prompts.passage, progress)

    def _encode(
        self, texts: Sequence[str], prompt: str, progress: Callable[[int], None] | None, *, exact: bool = False
    ) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise InvalidOption("one text, not several", where="texts", hint="put it in a list")
        check_texts(texts)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        portions = (slice(start, start + self.window) for start in range(0, len(texts), self.window))
        windows = ((portion, texts[portion]) for portion in portions)
        for portion, encoded in self._encoder.encode(windows, prompt, progress, exact=exact):
            vectors[portion] = encoded
        return vectors


class PackedEncoder:
    """Runs a bi-encoder of the BERT family on packed tokens; see `TextEncoder`."""

    def __init__(
        self, folder: Path, device: str, precision: str, max_length: int | None, batch_tokens: int | None
    ) -> None:
        from engine.models.model import Model

        self._model = Model(folder, task="embed", device=device)
        self.device, self.precision = self._model.device, self._model.fastest(precision)
        # A question costs little, and in fp32 it waits for no torch.
        self._exact: Precision = "fp32" if precision == "auto" and self.device == "cpu" else self.precision
        architecture = self._model.architecture
        self._tokenizer = TextTokenizer(folder)
        self._tokenizer.check_fits(self._tokenizer.single, architecture.vocabulary, architecture.types)
        self._max_length = length_limit(folder, architecture.max_length, max_length)
        assembly.room_for_text(self._tokenizer.single, self._max_length, texts=1)
        self._budget = batch_tokens
        self.dimension = architecture.hidden

    def encode(
        self, windows: Windows[Label], prompt: str, progress: Callable[[int], None] | None, *, exact: bool = False
    ) -> Iterator[tuple[Label, NDArray[np.float32]]]:
        runtime = self._model.runtime(self._exact if exact else self.precision)
        budget = self._budget or runtime.preferred_batch_tokens
        for (label, _), sequences in ahead(windows, lambda window: self._prepare(window[1], prompt)):
            pooled = planner.run(runtime, sequences.lengths, sequences.pack, budget, progress)
            yield label, pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)

    def _prepare(self, texts: Sequence[str], prompt: str) -> assembly.Sequences:
        tokens = self._tokenizer.tokenize([prompt + text for text in texts] if prompt else texts)
        return assembly.single_sequences(self._tokenizer.single, tokens, self._max_length)


def _prompts(folder: Path, name: str) -> Prompts:
    """The prompts of the folder; where it names none, those of the registry.

    sentence-transformers writes empty prompts for names that a model does not use, so an empty one says nothing.
    """
    where = folder / "config_sentence_transformers.json"
    own = (read_json(where) or {}).get("prompts")
    own = own if isinstance(own, dict) else {}
    if not all(isinstance(prompt, str | None) for prompt in own.values()):
        raise ModelDamaged("a prompt is no text", where=where, hint="mend it")
    query = own.get("query") or ""
    passage = next((own[key] for key in ("passage", "document", "corpus") if own.get(key)), "")
    if query or passage:
        return Prompts(query, passage)
    known = registry.describe(name)
    return Prompts(**known.prompts) if known is not None else Prompts()

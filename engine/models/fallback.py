"""Models outside the BERT family, run by sentence-transformers: slower, behind the same interface.

Remote code stays off and nothing is unpickled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DependencyMissing, FouilleError, InvalidOption, ModelUnsupported
from engine.models import device as devices
from engine.models.biencoder import Label, Windows
from engine.models.crossencoder import Scores
from engine.models.crossencoder_config import check_labels
from engine.models.quiet import quiet_transformers
from engine.ragged import offsets_of
from engine.records import LongPassages, Ragged

__all__ = ["SentenceTransformersEncoder", "SentenceTransformersScorer"]

_DTYPES = {"auto": "float32", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_TEXTS_AT_ONCE = 256


class SentenceTransformersScorer:
    """Runs any cross-encoder of sentence-transformers; see `PairScorer`.

    Such a model may build its input in its own way, so what is stored of a passage is its text, as UTF-8 bytes.
    """

    tokenizer_hash = "utf-8"
    draft_precision: str | None = None

    def __init__(self, folder: Path, device: str, precision: str, max_length: int | None) -> None:
        with _loading(folder):
            from sentence_transformers import CrossEncoder

            self._model = CrossEncoder(
                str(folder), max_length=max_length, **_options(device, precision), model_kwargs=_weights(precision)
            )
        check_labels(folder, self._model.num_labels)
        self.max_length = int(self._model.max_seq_length or max_length or 512)
        self.device = str(self._model.device)
        self.precision = "fp32" if precision == "auto" else precision

    def tokenize_passages(self, texts: Sequence[str]) -> Ragged:
        """The texts' UTF-8 bytes, uint16."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        offsets = offsets_of([len(text) for text in encoded])
        return Ragged(np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint16), offsets)

    def drafts_pay(self, tokens: int) -> bool:  # noqa: ARG002
        """It makes none."""
        return False

    def score(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: NDArray[np.integer[Any]],
        long_passages: LongPassages,
        *,
        draft: bool = False,  # noqa: ARG002 - it makes none
    ) -> Scores:
        """Logits of pairs, by `predict`.

        Raises:
            InvalidOption: `long_passages` is `maxp`.
        """
        if long_passages == "maxp":
            raise InvalidOption(
                "maxp needs a cross-encoder of the BERT family", where="long_passages", hint="take truncate"
            )
        if not len(pairs):
            return Scores(np.empty(0, np.float32), np.empty(0, np.bool_))
        from torch.nn import Identity

        joined = passages.values.astype(np.uint8).tobytes()
        texts = [joined[start:stop].decode() for start, stop in pairwise(passages.offsets.tolist())]
        inputs = [(questions[question], texts[passage]) for question, passage in pairs.tolist()]
        logits = self._model.predict(inputs, activation_fn=Identity(), show_progress_bar=False)
        return Scores(np.asarray(logits, np.float32), self._truncated(inputs))

    def _truncated(self, inputs: list[tuple[str, str]]) -> NDArray[np.bool_]:
        tokens = self._model.tokenizer([pair[0] for pair in inputs], [pair[1] for pair in inputs], truncation=False)
        return np.array([len(ids) > self.max_length for ids in tokens["input_ids"]], np.bool_)


class SentenceTransformersEncoder:
    """Runs any bi-encoder of sentence-transformers; see `TextEncoder`."""

    def __init__(self, folder: Path, device: str, precision: str, max_length: int | None = None) -> None:
        with _loading(folder):
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(folder), **_options(device, precision), model_kwargs=_weights(precision)
            )
        if max_length is not None:
            self._model.max_seq_length = min(max_length, int(self._model.max_seq_length or max_length))
        renamed = getattr(self._model, "get_embedding_dimension", None)  # the older name warns where both exist
        self.dimension = int((renamed or self._model.get_sentence_embedding_dimension)())
        self.device = str(self._model.device)
        self.precision = "fp32" if precision == "auto" else precision

    def encode(
        self,
        windows: Windows[Label],
        prompt: str,
        progress: Callable[[int], None] | None,
        *,
        exact: bool = False,  # noqa: ARG002 - there auto is fp32
    ) -> Iterator[tuple[Label, NDArray[np.float32]]]:
        """See `engine.models.biencoder.TextEncoder`."""
        for label, texts in windows:
            vectors = np.empty((len(texts), self.dimension), np.float32)
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                block = list(texts[start : start + _TEXTS_AT_ONCE])
                vectors[start : start + len(block)] = self._model.encode(
                    block, prompt=prompt, normalize_embeddings=True, show_progress_bar=False
                )
                if progress is not None:
                    progress(len(block))
            yield label, vectors


def _options(device: str, precision: str) -> dict[str, Any]:
    if precision not in _DTYPES:
        raise InvalidOption(
            f"{precision} needs a model of the BERT family",
            where="precision",
            hint=f"take one of {', '.join(_DTYPES)}",
        )
    first = devices.choose_devices(device)[0]  # it takes one, and knows kinds that `auto` here does not
    chosen = None if device == "auto" else first
    return {"device": chosen, "local_files_only": True, "trust_remote_code": False}


def _weights(precision: str) -> dict[str, Any]:
    return {"dtype": _DTYPES[precision], "use_safetensors": True}


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Without the library's bars and reports; whatever it raises becomes one line that names the folder."""
    try:
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise DependencyMissing(
            "a model outside the BERT family needs sentence-transformers",
            where=folder,
            hint="pip install sentence-transformers",
        ) from error
    try:
        with quiet_transformers():
            yield
    except FouilleError:
        raise
    except Exception as error:  # a foreign library's errors have no common root
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelUnsupported(f"sentence-transformers cannot run it: {reason}", where=folder) from error

"""fouille's models under mteb's interfaces (mteb 2), so that its retrieval and reranking tasks measure them.

>>> import mteb
>>> from engine.evaluation.mteb import MtebCrossEncoder
>>> isinstance(MtebCrossEncoder(reranker), mteb.CrossEncoderProtocol)
True
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DependencyMissing, EvaluationError

if TYPE_CHECKING:
    from engine.evaluation.protocols import BenchmarkTable
    from engine.models import BiEncoder, CrossEncoder
    from engine.settings import Settings

try:
    import mteb
    from mteb.models import ModelMeta
except ImportError:
    raise DependencyMissing("mteb is not installed", hint="pip install 'fouille[eval]'") from None

__all__ = ["MtebCrossEncoder", "MtebEncoder", "benchmark_task"]


def _meta(name: str, revision: str, kind: str) -> Any:
    owner, _, model = name.rpartition("/")
    shown = f"{Path(owner).name or 'fouille'}/{model}"
    return ModelMeta.create_empty(overwrites={"name": shown, "revision": revision, "model_type": [kind]})


def _texts(batches: Iterable[Mapping[str, Any]], field: str = "text") -> list[str]:
    return [text for batch in batches for text in batch.get(field) or batch["text"]]


class MtebEncoder:
    """A bi-encoder as mteb's EncoderProtocol. Prompts are the model's own, whatever the task."""

    def __init__(self, encoder: "BiEncoder") -> None:
        self.encoder = encoder
        self.mteb_model_meta = _meta(encoder.name, encoder.hash, "dense")

    def encode(self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **_: Any) -> NDArray[np.float32]:
        """Vectors of a stream of batches, float32[n, d]; the query prompt where `prompt_type` is query."""
        is_query = getattr(prompt_type, "value", prompt_type) == "query"
        texts = _texts(inputs)
        return self.encoder.encode_queries(texts) if is_query else self.encoder.encode_passages(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Inner products of all with all: a tensor, [n, m]."""
        import torch

        return torch.as_tensor(np.asarray(embeddings1) @ np.asarray(embeddings2).T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Inner products row by row: a tensor, [n]."""
        import torch

        return torch.as_tensor((np.asarray(embeddings1) * np.asarray(embeddings2)).sum(axis=1))


class MtebCrossEncoder:
    """A cross-encoder as mteb's CrossEncoderProtocol."""

    def __init__(self, reranker: "CrossEncoder") -> None:
        self.reranker = reranker
        self.mteb_model_meta = _meta(reranker.name, reranker.hash, "cross-encoder")

    def predict(
        self, inputs1: Iterable[Mapping[str, Any]], inputs2: Iterable[Mapping[str, Any]], **_: Any
    ) -> NDArray[np.float32]:
        """Logits of pairs, float32[n]: a stream of questions, a stream of passages of the same length."""
        pairs = list(zip(_texts(inputs1, "query"), _texts(inputs2), strict=True))
        return self.reranker.score_pairs(pairs, activation="none")


def benchmark_task(
    name: str, *, reranker: "CrossEncoder | None", encoder: str | None, settings: "Settings | None"
) -> "list[BenchmarkTable]":
    """Runs one task of mteb with the models given; mteb fetches its data.

    Raises:
        EvaluationError: mteb knows no such task, its data cannot be downloaded, or no model was given.
    """
    from engine.evaluation.protocols import BenchmarkTable, Row
    from engine.models import BiEncoder

    try:
        task = mteb.get_task(name, languages=["fra"])
    except (KeyError, ValueError):
        hint = "see mteb.get_tasks(languages=['fra'])"
        raise EvaluationError(f"mteb knows no French task {name!r}", hint=hint) from None
    models: list[Any] = [MtebCrossEncoder(reranker)] if reranker is not None else []
    if encoder is not None:
        device, precision = (settings.device, settings.precision) if settings else ("auto", "auto")
        models.append(MtebEncoder(BiEncoder(encoder, device, precision)))
    if not models:
        raise EvaluationError("no model to measure", where=name, hint="name --reranker or --encoder")
    rows = []
    for model in models:
        try:
            results = mteb.evaluate(model, [task], overwrite_strategy="always", cache=None)
        except OSError as error:  # the hub's client and datasets raise its subclasses where they have no network
            reason = " ".join(str(error).split())[:160]
            raise EvaluationError(f"its data cannot be downloaded: {reason}", where=f"mteb:{name}") from error
        rows.append(Row(model.mteb_model_meta.name, False, {"main score": 100 * results.task_results[0].get_score()}))
    return [BenchmarkTable(f"mteb:{name}", name, ("main score",), tuple(rows))]

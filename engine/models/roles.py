"""What a model was made for, as its folder says: to score pairs, or to make vectors.

sentence-transformers would put a random head on a model that has none, and pool the states of one that scores pairs.
"""

from pathlib import Path
from typing import Any

from engine.errors import ModelUnsupported
from engine.models.architecture import read_json

__all__ = ["check_encoder", "check_reranker"]

_SCORES = "ForSequenceClassification"
_HEADLESS = ("BertModel", "RobertaModel", "CamembertModel", "ElectraModel", "ForMaskedLM", "ForPreTraining")


def check_reranker(folder: Path) -> None:
    """See that a model was trained to score pairs.

    Raises:
        ModelUnsupported: it makes vectors, or is a base model.
        ModelDamaged: a file cannot be read.
    """
    if _pools(folder):
        raise ModelUnsupported("is a bi-encoder, which scores no pairs", where=folder, hint="name it with --encoder")
    kinds = _kinds(folder)
    if kinds and all(kind.endswith(_HEADLESS) for kind in kinds):
        what = f"is a base model ({kinds[0]}), which scores no pairs"
        raise ModelUnsupported(what, where=folder, hint="train it first, with fouille train cross-encoder")


def check_encoder(folder: Path) -> None:
    """See that a model was not trained to score pairs.

    Raises:
        ModelUnsupported: it was.
        ModelDamaged: a file cannot be read.
    """
    if any(kind.endswith(_SCORES) for kind in _kinds(folder)) and not _pools(folder):
        raise ModelUnsupported(
            "is a cross-encoder, which makes no vectors", where=folder, hint="name it with --reranker"
        )


def _pools(folder: Path) -> bool:
    modules: list[Any] = read_json(folder / "modules.json", of=list) or []
    return any(str(one.get("type", "")).endswith(".Pooling") for one in modules if isinstance(one, dict))


def _kinds(folder: Path) -> list[str]:
    kinds = (read_json(folder / "config.json") or {}).get("architectures")
    return list(map(str, kinds)) if isinstance(kinds, list) else []

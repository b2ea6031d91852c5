"""A model's tensors: memory-mapped from safetensors, under one set of names for every family.

Nothing is copied or converted here. The embedding table of a multilingual model is 96 million numbers of which a
search reads a few thousand rows; its pages stay on disk until a row is looked up.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from engine.models.architecture import Architecture, Family, read_json
from engine.models.registry import refuse_pickles

__all__ = ["RawTensor", "Shape", "StoredTensor", "expected_tensors", "in_order", "map_tensors", "open_weights"]

Shape = tuple[int, ...]

_BASE: Mapping[Family, str] = {
    "bert": "bert.",
    "roberta": "roberta.",
    "electra": "electra.",
    "distilbert": "distilbert.",
}
_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "output_norm": "output_layer_norm",
}
_RENAMED = {"gamma": "weight", "beta": "bias"}
_FLOATS: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
}
_BITS_OF_BF16 = 16
"""bf16 is the upper half of fp32."""
_LENGTH = 8
"""Bytes in front of a safetensors header that say how long it is."""
_LONGEST_NAME = 255
# Tensors of a pre-training task, a pooler that the task does not read, and a buffer that old checkpoints carry.
_UNREAD_ENDS = ("position_ids", "token_type_ids")
_UNREAD_STARTS = ("lm_head.", "cls.", "generator_", "discriminator_", "vocab_", "qa_outputs.", "pooler.")


class RawTensor(NamedTuple):
    """A tensor of a safetensors file.

    Attributes:
        kind: its type, as safetensors names it.
        shape: of the tensor.
        content: its bytes, mapped.
    """

    kind: str
    shape: Shape
    content: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it lies in its file.

    Attributes:
        kind: F32, F16 or BF16, as safetensors names them.
        data: float32, float16, or the bits of bf16 as uint16; memory-mapped.
    """

    kind: str
    data: NDArray[Any]

    def floats(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
        """Its numbers, or those of some rows, in fp32; the mapped file itself where that is what it holds."""
        data = self.data if rows is None else np.take(self.data, rows, axis=0)
        if self.kind == "BF16":
            return (data.astype(np.uint32) << _BITS_OF_BF16).view(np.float32)
        return data.astype(np.float32, copy=False)


def expected_tensors(architecture: Architecture, base: str) -> dict[str, tuple[str, Shape]]:
    """Every tensor that the encoder reads: our name -> (stored name, shape).

    Args:
        architecture: of the model.
        base: what the stored names of the encoder's own tensors begin with, such as `roberta.`.
    """
    wide, hidden, inner = architecture.embedding, architecture.hidden, architecture.intermediate
    found: dict[str, tuple[str, Shape]] = {}

    def affine(name: str, stored: str, out: int, width: int | None) -> None:
        found[f"{name}.weight"] = f"{stored}.weight", (out,) if width is None else (out, width)
        found[f"{name}.bias"] = f"{stored}.bias", (out,)

    tables = f"{base}embeddings"
    found["words"] = f"{tables}.word_embeddings.weight", (architecture.vocabulary, wide)
    found["positions"] = f"{tables}.position_embeddings.weight", (architecture.positions, wide)
    if architecture.types:
        found["types"] = f"{tables}.token_type_embeddings.weight", (architecture.types, wide)
    affine("norm", f"{tables}.LayerNorm", wide, None)
    if wide != hidden:
        affine("projection", f"{base}embeddings_project", hidden, wide)
    distil = architecture.family == "distilbert"
    names = _DISTILBERT_LAYER if distil else _BERT_LAYER
    stack = f"{base}transformer.layer" if distil else f"{base}encoder.layer"
    widths = {"up": (inner, hidden), "down": (hidden, inner)}
    for layer in range(architecture.layers):
        for name, stored in names.items():
            out, width = widths.get(name, (hidden, None if name.endswith("norm") else hidden))
            affine(f"layers.{layer}.{name}", f"{stack}.{layer}.{stored}", out, width)
    if head := architecture.head:
        affine("head.dense", head.dense.format(base=base), hidden, hidden)
        affine("head.output", head.output.format(base=base), architecture.labels, hidden)
    return found


def open_weights(folder: Path, architecture: Architecture) -> dict[str, StoredTensor]:
    """The model's tensors as they are stored, mapped from `model.safetensors` or its shards.

    Returns:
        Our names (see `expected_tensors`) -> tensors of fp32, fp16 or bf16.

    Raises:
        ModelNotFound: the folder holds no weights.
        ModelUnsupported: it holds only a pickled checkpoint, or numbers that are no floats.
        ModelDamaged: a file is cut short; a tensor is missing, unknown or of a foreign shape.
    """
    stored: dict[str, tuple[Path, str, RawTensor]] = {}
    for path in _files(folder):
        _, tensors = map_tensors(path)
        stored |= {_current_name(key): (path, key, tensor) for key, tensor in tensors.items()}
    base = _base(architecture.family, stored)
    expected = expected_tensors(architecture, base)
    _check_names(folder, base, architecture, set(stored), {name for name, _ in expected.values()})
    found = {}
    for name, (current, shape) in expected.items():
        path, key, tensor = stored[current]
        if tensor.shape != shape:
            what = f"{key} is {list(tensor.shape)} where config.json says {list(shape)}"
            raise ModelDamaged(what, where=path, hint="fetch the model again")
        if tensor.kind not in _FLOATS:
            what = f"{key} is stored as {tensor.kind}"
            if tensor.kind.startswith("F"):
                raise ModelUnsupported(what, where=path)
            raise ModelDamaged(what, where=path, hint="weights are fp32, fp16 or bf16; fetch the model again")
        numbers = tensor.content.view(_FLOATS[tensor.kind]).reshape(shape)
        found[name] = StoredTensor(tensor.kind, np.require(numbers, requirements="A"))
    return found


def map_tensors(path: Path) -> tuple[bytes, dict[str, RawTensor]]:
    """A safetensors file, mapped: its header, and its tensors in the order of their bytes.

    Raises:
        ModelDamaged: it is missing, cut short, or no safetensors file.
    """
    try:
        with safe_open(path, framework="np"):
            pass  # has seen that the tensors are as long as they say, lie end to end and fill the file
        # Writable pages of this process alone, because torch warns of others; nobody writes to them.
        content = np.memmap(path, np.uint8, "c")
    except FileNotFoundError:
        raise ModelDamaged("is missing", where=path, hint="give the folder of a whole model") from None
    except (OSError, SafetensorError) as error:
        raise ModelDamaged(f"cannot be read: {error}", where=path, hint="fetch the model again") from error
    begin = _LENGTH + int.from_bytes(content[:_LENGTH].tobytes(), "little")
    header = content[_LENGTH:begin].tobytes()
    entries = json.loads(header)
    tensors = {}
    for key in in_order(entries):
        entry = entries[key]
        first, last = entry["data_offsets"]
        tensors[key] = RawTensor(entry["dtype"], tuple(entry["shape"]), content[begin + first : begin + last])
    return header, tensors


def in_order(header: Mapping[str, Any]) -> list[str]:
    """The tensors that a safetensors header names, in the order of their bytes."""
    return sorted((key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"])


def _files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if listing := read_json(index):
        # A shard is a file of this folder: whatever path the index writes before its name is not followed.
        listed = listing.get("weight_map")
        names = sorted({Path(str(name)).name for name in listed.values()}) if isinstance(listed, dict) else []
        if not names:
            raise ModelDamaged("lists no shard", where=index, hint="fetch the model again")
        for name in names:
            if len(name) > _LONGEST_NAME or not (folder / name).is_file():
                raise ModelDamaged("is missing", where=folder / name, hint="fetch the model again")
        return [folder / name for name in names]
    refuse_pickles(folder)
    raise ModelNotFound("holds no model.safetensors", where=folder, hint="fetch the model again")


def _base(family: Family, stored: Mapping[str, object]) -> str:
    """Bare encoders (`AutoModel.save_pretrained`) are stored without the prefix that a model with a head has."""
    return _BASE[family] if f"{_BASE[family]}embeddings.word_embeddings.weight" in stored else ""


def _check_names(folder: Path, base: str, architecture: Architecture, stored: set[str], expected: set[str]) -> None:
    names = ("model.safetensors", "model.safetensors.index.json")
    where = next((folder / name for name in names if (folder / name).is_file()), folder)
    if missing := sorted(expected - stored):
        raise ModelDamaged(f"lacks {_some(missing)}", where=where, hint="fetch the model again")

    def unread(name: str) -> bool:
        name = name.removeprefix(base)
        headless = architecture.head is None and name.startswith(("classifier.", "pre_classifier."))
        return name.endswith(_UNREAD_ENDS) or name.startswith(_UNREAD_STARTS) or headless

    if extra := sorted(name for name in stored - expected if not unread(name)):
        raise ModelDamaged(
            f"holds {_some(extra)}, which config.json does not account for", where=where, hint="fetch the model again"
        )


def _current_name(key: str) -> str:
    """Old checkpoints call the two tensors of a layer norm gamma and beta; transformers renames them too."""
    head, dot, last = key.rpartition(".")
    return f"{head}.{_RENAMED[last]}" if dot and last in _RENAMED and head.endswith("LayerNorm") else key


def _some(names: list[str]) -> str:
    more = len(names) - 1
    return names[0] if not more else f"{names[0]} and {more} more"

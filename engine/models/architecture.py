"""What a model's `config.json` says of its shape: one frozen record for the whole BERT family."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported

__all__ = [
    "Activation",
    "Architecture",
    "Family",
    "Head",
    "Pooling",
    "Task",
    "read_architecture",
    "read_json",
    "sentence_settings",
]

Family = Literal["bert", "roberta", "electra", "distilbert"]
Activation = Literal["gelu", "gelu_tanh", "relu", "tanh"]
Pooling = Literal["first", "mean"]
Task = Literal["classify", "embed"]

_FAMILIES: Mapping[str, Family] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "electra": "electra",
    "distilbert": "distilbert",
}
_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ALTERED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_SENTENCE_MODULES: Mapping[Task, frozenset[str]] = {
    "classify": frozenset({"Transformer"}),
    "embed": frozenset({"Transformer", "Pooling", "Normalize"}),
}
_MOST_LAYERS = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """The classification head: `output(activation(dense(x)))` of the first token's state.

    Attributes:
        dense, output: stored names of the two layers, without `.weight` and `.bias`; `{base}` stands for the encoder's.
        activation: what lies between them.
    """

    dense: str
    output: str
    activation: Activation


_HEADS: Mapping[Family, Head] = {
    "bert": Head("{base}pooler.dense", "classifier", "tanh"),
    "roberta": Head("classifier.dense", "classifier.out_proj", "tanh"),
    "electra": Head("classifier.dense", "classifier.out_proj", "gelu"),
    "distilbert": Head("pre_classifier", "classifier", "relu"),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of one encoder of the BERT family.

    Attributes:
        family: how its tensors are named, its positions counted and its head built.
        layers, hidden, heads, intermediate: sizes of the encoder.
        embedding: width of the embedding tables; ELECTRA may project it to `hidden`.
        vocabulary, positions, types: rows of the three tables; `types` is 0 where there is none.
        position_offset: position id of the first token.
        padding: the id that RoBERTa's position count skips, None where every token counts.
        activation: between the two products of the feed-forward part.
        epsilon: of layer normalisation.
        head: None when the model embeds.
        labels: logits per sequence, 0 when the model embeds.
        pooling: how an embedding model turns token states into one vector.
    """

    family: Family
    layers: int
    hidden: int
    heads: int
    intermediate: int
    embedding: int
    vocabulary: int
    positions: int
    types: int
    position_offset: int
    padding: int | None
    activation: Activation
    epsilon: float
    head: Head | None
    labels: int
    pooling: Pooling

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence that has a position embedding for each of its tokens."""
        return self.positions - self.position_offset


def read_architecture(folder: Path, task: Task) -> Architecture:
    """The architecture of the model in a folder.

    Raises:
        ModelNotFound: the folder holds no `config.json`.
        ModelDamaged: a configuration file cannot be read or contradicts itself.
        ModelUnsupported: a model outside the BERT family, or one that alters it (relative positions, a decoder,
            sentence-transformers modules beyond pooling and normalisation).
    """
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelNotFound("holds no config.json", where=folder, hint="give the folder of a transformers model")
    where = folder / "config.json"
    kind = config.get("model_type")
    family = _FAMILIES.get(str(kind))
    if family is None:
        raise ModelUnsupported(f"model type {kind!r} is not of the BERT family", where=where)
    for key, value in _ALTERED.items():
        if config.get(key, value) != value:
            raise ModelUnsupported(f"{key} {config[key]!r} is not supported", where=where)
    modules = _modules(folder, task)
    pooling = _pooling(folder, modules) if task == "embed" else "first"
    try:
        return _architecture(family, config, task, pooling, where)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelDamaged(f"does not describe a model: {reason}", where=where) from error


def _architecture(family: Family, config: Mapping[str, Any], task: Task, pooling: Pooling, where: Path) -> Architecture:
    distil = family == "distilbert"
    activation = config.get("activation" if distil else "hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelUnsupported(f"activation {activation!r} is not supported", where=where)
    hidden = _size(config, "dim" if distil else "hidden_size")
    heads = _size(config, "n_heads" if distil else "num_attention_heads")
    if hidden % heads:
        raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
    padding = int(config.get("pad_token_id", 1)) if family == "roberta" else None
    if padding is not None and padding < 0:
        raise ValueError(f"pad_token_id is {padding}")
    layers = _size(config, "n_layers" if distil else "num_hidden_layers")
    if layers > _MOST_LAYERS:
        raise ValueError(f"{layers} layers are more than {_MOST_LAYERS}")
    positions = _size(config, "max_position_embeddings")
    offset = 0 if padding is None else padding + 1
    if positions <= offset:
        raise ValueError(f"{positions} positions leave no room for a token")
    return Architecture(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=_size(config, "hidden_dim" if distil else "intermediate_size"),
        embedding=_size(config, "embedding_size") if family == "electra" else hidden,
        vocabulary=_size(config, "vocab_size"),
        positions=positions,
        types=0 if distil else int(config.get("type_vocab_size", 2)),
        position_offset=offset,
        padding=padding,
        activation=_ACTIVATIONS[activation],
        epsilon=1e-12 if distil else float(config.get("layer_norm_eps", 1e-12)),
        head=_HEADS[family] if task == "classify" else None,
        labels=_labels(config) if task == "classify" else 0,
        pooling=pooling,
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = int(config[key])
    if value < 1:
        raise ValueError(f"{key} is {value}")
    return value


def _labels(config: Mapping[str, Any]) -> int:
    """As transformers counts: the names given, else `num_labels`, else 2."""
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))


def _modules(folder: Path, task: Task) -> dict[str, str]:
    """Paths below the folder by kind of module, as `modules.json` lists them; empty where there is no such file."""
    where = folder / "modules.json"
    paths: dict[str, str] = {}
    for module in read_json(where, of=list) or []:
        if not isinstance(module, dict):
            raise ModelDamaged("does not list modules", where=where, hint="fetch the model again")
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _SENTENCE_MODULES[task]:
            raise ModelUnsupported(f"module {kind!r} is not supported", where=where)
        paths[kind] = str(module.get("path", ""))
    return paths


def _pooling(folder: Path, modules: Mapping[str, str]) -> Pooling:
    """What the pooling module's config asks for; the mean where there is no such module, as sentence-transformers does.

    Raises:
        ModelUnsupported: another pooling than the mean and the first token's, or one that leaves out the prompt.
        ModelDamaged: `modules.json` lists a pooling module that is not there.
    """
    if "Pooling" not in modules:
        return "mean"
    where = folder / modules["Pooling"] / "config.json"
    if not where.resolve().is_relative_to(folder.resolve()):
        raise ModelDamaged("names a module outside of the model's folder", where=folder / "modules.json")
    config = read_json(where)
    if config is None:
        raise ModelDamaged("is missing, and modules.json names it", where=where, hint="fetch the model again")
    if config.get("include_prompt") is False:
        raise ModelUnsupported("its pooling leaves out the prompt", where=where)
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    if "pooling_mode" in config:
        modes = {str(config["pooling_mode"])}
    if modes <= {"mean", "mean_tokens"}:
        return "mean"
    if modes <= {"cls", "cls_token"}:
        return "first"
    raise ModelUnsupported(f"pooling by {', '.join(sorted(modes))} is not supported", where=where)


def sentence_settings(folder: Path) -> Mapping[str, Any]:
    """What `sentence_bert_config.json` sets; sentence-transformers reads it only beside a `modules.json`.

    Raises:
        ModelDamaged: it cannot be read.
        ModelUnsupported: questions and passages have length limits of their own.
    """
    if not (folder / "modules.json").is_file():
        return {}
    where = folder / "sentence_bert_config.json"
    settings: dict[str, Any] = read_json(where) or {}
    if settings.get("query_length") or settings.get("document_length"):
        raise ModelUnsupported("limits questions and passages apart", where=where)
    return settings


def read_json(path: Path, *, of: type = dict) -> Any:
    """A JSON object (or list) from a file, None when there is no such file.

    Raises:
        ModelDamaged: the file holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelDamaged(f"cannot be read: {error}", where=path, hint="fetch the model again") from error
    if not isinstance(found, of):
        raise ModelDamaged(f"holds no JSON {of.__name__}", where=path, hint="fetch the model again")
    return found

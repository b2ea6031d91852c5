"""Models of the true shapes with random weights, and French text, for benchmarks on machines without a model hub.

Random weights are scaled so that attention is neither flat nor one-hot and scores differ from pair to pair. The text
is that of the `../shared` folder where there is one, else the sample that the package carries.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from engine.models.architecture import Task, read_architecture
from engine.models.weights import expected_tensors

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Shape:
    """Sizes of a published model."""

    model: str
    kind: str
    layers: int
    hidden: int
    heads: int
    vocabulary: int
    positions: int


SHAPES = {
    "l6": Shape("crossencoder-mMiniLMv2-L6-mmarcoFR", "xlm-roberta", 6, 384, 12, 250_002, 514),
    "l12": Shape("crossencoder-mMiniLMv2-L12-mmarcoFR", "xlm-roberta", 12, 384, 12, 250_002, 514),
    "xlmr-base": Shape("crossencoder-me5-base-mmarcoFR", "xlm-roberta", 12, 768, 12, 250_002, 514),
    "me5-small": Shape("multilingual-e5-small", "bert", 12, 384, 12, 250_037, 512),
    "me5-base": Shape("multilingual-e5-base", "xlm-roberta", 12, 768, 12, 250_002, 514),
    "bge-m3": Shape("bge-reranker-v2-m3", "xlm-roberta", 24, 1024, 16, 250_002, 8194),
}
_CLASSES = {"xlm-roberta": "XLMRoberta", "bert": "Bert"}


def model_folder(shape: str, task: Task, into: Path) -> Path:
    """The folder of a model: `shape` itself when it is one, else random weights written under `into`."""
    if shape not in SHAPES:
        return Path(shape)
    folder = into / f"{shape}-{task}"
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_config(SHAPES[shape], task, folder)
        _write_tokenizer(folder)
        _write_weights(task, folder)
    return folder


def _write_config(shape: Shape, task: Task, folder: Path) -> None:
    suffix = "ForSequenceClassification" if task == "classify" else "Model"
    config: dict[str, Any] = {
        "model_type": shape.kind,
        "architectures": [_CLASSES[shape.kind] + suffix],
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.hidden,
        "max_position_embeddings": shape.positions,
        "vocab_size": shape.vocabulary,
        "type_vocab_size": 2 if shape.kind == "bert" else 1,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "layer_norm_eps": 1e-12 if shape.kind == "bert" else 1e-5,
        "hidden_act": "gelu",
        "dtype": "float32",
    }
    if task == "classify":
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    else:
        kinds = ("Transformer", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (_, path, kind) in enumerate(kinds)
        ]
        _write_json(folder / "modules.json", modules)
        (folder / "1_Pooling").mkdir(exist_ok=True)
        pooling = {"word_embedding_dimension": shape.hidden, "pooling_mode_mean_tokens": True}
        _write_json(folder / "1_Pooling" / "config.json", pooling)
        _write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    _write_json(folder / "config.json", config)


def _write_weights(task: Task, folder: Path) -> None:
    architecture = read_architecture(folder, task)
    generator = torch.Generator().manual_seed(0)
    base = "roberta." if architecture.family == "roberta" else "bert."
    tensors = {}
    for name, (stored, size) in expected_tensors(architecture, base if task == "classify" else "").items():
        if "norm" in name:
            tensor = torch.full(size, 1.0 if stored.endswith("weight") else 0.0)
        elif stored.endswith("bias"):
            tensor = torch.zeros(size)
        elif name in {"words", "positions", "types"}:
            tensor = torch.randn(size, generator=generator).mul_(1.0 if name == "words" else 0.3)
        else:
            tensor = torch.randn(size, generator=generator).mul_(1.5 / size[1] ** 0.5)
        tensors[stored] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> None:
    """XLM-R's template over the pieces at hand; fewer pieces than the table has rows is legal."""
    ready = SHARED / "models" / "xenc-fr-l12"
    if ready.is_dir():
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(ready / name, folder / name)
        return
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    unknown = {"unk_token": special[3]}
    trainer = trainers.UnigramTrainer(vocab_size=8000, special_tokens=special, show_progress=False, **unknown)
    tokenizer.train_from_iterator(passages(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, "cls_token": "<s>"}
    _write_json(folder / "tokenizer_config.json", config | {"sep_token": "</s>"} | names)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def questions() -> list[str]:
    """French questions."""
    path = SHARED / "data" / "beir" / "piaf" / "queries.jsonl"
    if path.exists():
        return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    lines = (ROOT / "engine" / "sample" / "questions.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines if "\t" in line]


def passages() -> list[str]:
    """French passages, as they are found."""
    path = SHARED / "data" / "beir" / "piaf" / "corpus.jsonl"
    if path.exists():
        return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    files = sorted((ROOT / "engine" / "sample" / "documents").rglob("*.txt"))
    texts = [text for file in files for text in file.read_text(encoding="utf-8").split("\n\n") if len(text) > 200]
    return texts or [" ".join(questions())]


def passages_of(words: int, count: int, spread: float = 0.35) -> list[str]:
    """Passages of about so many words, running text cut at lengths that vary as those of real passages do."""
    generator = torch.Generator().manual_seed(1)
    stream = _words()
    found = []
    for _ in range(count):
        share = 1 + spread * float(torch.randn(1, generator=generator).clamp(-2, 2))
        found.append(" ".join(next(stream) for _ in range(max(8, round(words * share)))))
    return found


def _words() -> Iterator[str]:
    while True:
        for text in passages():
            yield from text.split()

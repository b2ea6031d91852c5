"""What every test needs: no hub, no folder of the user's, the real French data where it lies beside the repository."""

import json
import os
import string
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# The same examples in every run, which then says something of the change at hand; others are looked for by
# `pytest --hypothesis-profile=explore tests/property`.
settings.register_profile("explore")
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _folders_of_the_tests(tmp_path_factory):
    """The tests keep out of the user's own folders, and do without the models that ship unless they ask for them."""
    base = tmp_path_factory.mktemp("folders")
    patch = pytest.MonkeyPatch()
    for kind in ("data", "cache", "config"):
        patch.setenv(f"FOUILLE_{kind.upper()}_DIR", str(base / kind))
    patch.setenv("HF_HOME", str(base / "hub"))
    patch.setenv("FOUILLE_SHIPPED_DIR", "")
    for name in [name for name in os.environ if name.startswith("FOUILLE_") and not name.endswith("_DIR")]:
        patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real French text and weights; the test is skipped where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real French text and weights is not beside the repository")
    return SHARED


def _tokenizer(text: str):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    # Not trained: where pieces are as frequent, a trainer takes others in every process, and a test others with them.
    words = Counter(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({*string.ascii_lowercase, *string.digits, *"".join(words)})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *sorted(words, key=lambda w: (-words[w], w))]
    vocabulary = {piece: number for number, piece in enumerate(list(dict.fromkeys(pieces))[:400])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a piece, not a password
    tokenizer.add_special_tokens(specials)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _tensors(prefix: str, hidden: int, layers: int, vocabulary: int, positions: int) -> dict:
    import numpy as np

    random = np.random.default_rng(7)

    def affine(name: str, rows: int, columns: int) -> dict:
        weight = random.normal(0, 0.3, (rows, columns)).astype(np.float32)
        return {f"{name}.weight": weight, f"{name}.bias": random.normal(0, 0.1, rows).astype(np.float32)}

    def norm(name: str) -> dict:
        return {f"{name}.weight": np.ones(hidden, np.float32), f"{name}.bias": np.zeros(hidden, np.float32)}

    tensors = norm(f"{prefix}embeddings.LayerNorm")
    for name, rows in (("word", vocabulary), ("position", positions), ("token_type", 2)):
        table = random.normal(0, 1, (rows, hidden)).astype(np.float32)
        tensors[f"{prefix}embeddings.{name}_embeddings.weight"] = table
    for layer in range(layers):
        base = f"{prefix}encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            tensors |= affine(f"{base}.attention.self.{name}", hidden, hidden)
        tensors |= affine(f"{base}.attention.output.dense", hidden, hidden)
        tensors |= affine(f"{base}.intermediate.dense", 2 * hidden, hidden)
        tensors |= affine(f"{base}.output.dense", hidden, 2 * hidden)
        tensors |= norm(f"{base}.attention.output.LayerNorm") | norm(f"{base}.output.LayerNorm")
    if prefix:
        tensors |= affine(f"{prefix}pooler.dense", hidden, hidden) | affine("classifier", 1, hidden)
    return tensors


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """Folders of a random bi-encoder and a random cross-encoder, made without transformers: `.encoder`, `.reranker`."""
    from safetensors.numpy import save_file

    words = (ROOT / "tests" / "conftest.py").read_text("utf-8") + " cheval chevaux jardin maison fromage pluie soleil"
    tokenizer, base = _tokenizer(words), tmp_path_factory.mktemp("tiny")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = size | {
        "model_type": "bert",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": 0,
    }
    folders = {}
    for kind, prefix, architecture in (
        ("encoder", "", "BertModel"),
        ("reranker", "bert.", "BertForSequenceClassification"),
    ):
        folder = folders[kind] = base / kind
        folder.mkdir()
        own = config | {"architectures": [architecture], "id2label": {"0": "LABEL_0"}}
        (folder / "config.json").write_text(json.dumps(own), "utf-8")
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"model_max_length": 128, "tokenizer_class": "BertTokenizer"}), "utf-8"
        )
        tokenizer.save(str(folder / "tokenizer.json"))
        save_file(_tensors(prefix, 32, 2, tokenizer.get_vocab_size(), 128), folder / "model.safetensors")
    return SimpleNamespace(**folders)

"""A family outside BERT's (ModernBERT, tiny and random) runs through sentence-transformers."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from engine.errors import DependencyMissing, InvalidOption, ModelUnsupported
from engine.models import BiEncoder, CrossEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
PASSAGES = ["a b c", "", "d é", "a " * 40]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    from transformers import ModernBertConfig, ModernBertForSequenceClassification, ModernBertModel

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        num_labels=1,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        initializer_range=0.5,
    )
    base = tmp_path_factory.mktemp("modernbert")
    for name, model in (("cross", ModernBertForSequenceClassification), ("bi", ModernBertModel)):
        model(config).eval().save_pretrained(base / name)
        tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(WORDS[:5])
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.save(str(base / name / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 32,
            "pad_token": "[PAD]",
            "model_input_names": ["input_ids", "attention_mask"],
        }
        (base / name / "tokenizer_config.json").write_text(json.dumps(settings))
    return base


@pytest.fixture(scope="module")
def cross(folders):
    return CrossEncoder(folders / "cross", "cpu")


def test_a_notice_says_that_it_is_slower(cross):
    assert len(cross.notices) == 1
    assert "runs through sentence-transformers, slower: model type 'modernbert'" in cross.notices[0]


def test_logits_are_those_of_sentence_transformers(cross, folders):
    from sentence_transformers import CrossEncoder as Reference

    reference = Reference(str(folders / "cross"), device="cpu")
    expected = reference.predict(
        [("a b", passage) for passage in PASSAGES], activation_fn=torch.nn.Identity(), show_progress_bar=False
    )
    np.testing.assert_allclose(cross.score("a b", PASSAGES, activation="none"), expected, atol=1e-5)


def test_stored_passages_score_as_strings_do(cross):
    rows = np.array([[1, 0], [0, 2], [0, 0], [1, 3]])
    scores = cross.score_tokens(["a b", "c"], cross.tokenize_passages(PASSAGES), rows)
    pairs = [(["a b", "c"][question], PASSAGES[passage]) for question, passage in rows]
    np.testing.assert_allclose(scores.logits, cross.score_pairs(pairs, activation="none"), atol=1e-5)
    assert scores.truncated.tolist() == [False, False, False, True]


def test_windows_are_refused(cross):
    with pytest.raises(InvalidOption, match="maxp needs a cross-encoder of the BERT family"):
        cross.score_tokens(["a"], cross.tokenize_passages(["b"]), np.array([[0, 0]]), long_passages="maxp")


def test_int8_is_refused(folders):
    with pytest.raises(InvalidOption, match="int8 needs a model of the BERT family"):
        CrossEncoder(folders / "cross", "cpu", "int8")


def test_a_machine_without_sentence_transformers_is_told(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DependencyMissing, match="needs sentence-transformers"):
        CrossEncoder(folders / "cross", "cpu")


def test_remote_code_stays_off(folders, tmp_path):
    folder = tmp_path / "own-code"
    shutil.copytree(folders / "cross", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "inconnu", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelUnsupported, match="own-code: sentence-transformers cannot run it"):
        CrossEncoder(folder, "cpu")
    assert not (tmp_path / "ran").exists()


def test_vectors_are_those_of_sentence_transformers(folders):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folders / "bi"), device="cpu").encode(
        PASSAGES, normalize_embeddings=True, show_progress_bar=False
    )
    model = BiEncoder(folders / "bi", "cpu")
    done: list[int] = []
    np.testing.assert_allclose(model.encode_passages(PASSAGES, done.append), expected, atol=1e-5)
    assert model.dimension == 16
    assert sum(done) == len(PASSAGES)
    assert "slower" in model.notices[0]


def test_a_lower_limit_holds_for_vectors_too(folders):
    model = BiEncoder(folders / "bi", "cpu", max_length=6)
    alike = model.encode_queries(["a b c d", "a b c d e f g"])
    np.testing.assert_allclose(alike[0], alike[1], atol=1e-6)


def test_an_unknown_device_is_an_option_that_makes_no_sense(folders):
    with pytest.raises(InvalidOption, match="no device is called"):
        CrossEncoder(folders / "cross", "tpu-9")

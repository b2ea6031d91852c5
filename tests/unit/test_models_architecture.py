import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from engine.models.architecture import read_architecture, sentence_settings

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "vocab_size": 100,
    "type_vocab_size": 2,
    "pad_token_id": 1,
}


POOLED = {"modules": [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]}


def folder_with(tmp_path: Path, config: object, **files: object) -> Path:
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return tmp_path


def test_bert_counts_positions_from_zero_whatever_its_padding(tmp_path: Path) -> None:
    architecture = read_architecture(folder_with(tmp_path, BERT), "classify")
    assert (architecture.position_offset, architecture.padding, architecture.max_length) == (0, None, 64)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert"])
def test_roberta_counts_positions_from_past_its_padding(tmp_path: Path, kind: str) -> None:
    config = BERT | {"model_type": kind, "max_position_embeddings": 514}
    architecture = read_architecture(folder_with(tmp_path, config), "classify")
    assert (architecture.family, architecture.position_offset, architecture.max_length) == ("roberta", 2, 512)


def test_labels_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    assert read_architecture(folder_with(tmp_path, BERT), "classify").labels == 2
    named = BERT | {"id2label": {"0": "relevant"}}
    assert read_architecture(folder_with(tmp_path, named), "classify").labels == 1


@pytest.mark.parametrize(
    ("files", "pooling"),
    [
        ({}, "mean"),
        ({"1_Pooling__config": {"pooling_mode": "cls"}}, "mean"),
        ({**POOLED, "1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}}, "first"),
        ({**POOLED, "1_Pooling__config": {"pooling_mode_mean_tokens": True}}, "mean"),
        ({**POOLED, "1_Pooling__config": {"pooling_mode": "cls"}}, "first"),
        ({"modules": [{"type": "x.Pooling", "path": "a/Pool"}], "a__Pool__config": {"pooling_mode": "cls"}}, "first"),
    ],
)
def test_pooling_is_what_the_folder_says(tmp_path: Path, files: dict[str, object], pooling: str) -> None:
    assert read_architecture(folder_with(tmp_path, BERT, **files), "embed").pooling == pooling


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen3"},
        {"model_type": None},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"hidden_act": "swish"},
    ],
)
def test_what_the_encoder_cannot_compute_is_unsupported(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ModelUnsupported, match=r"config\.json: "):
        read_architecture(folder_with(tmp_path, BERT | change), "classify")


@pytest.mark.parametrize(
    "files",
    [
        {"modules": [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]},
        {**POOLED, "1_Pooling__config": {"pooling_mode_max_tokens": True}},
        {**POOLED, "1_Pooling__config": {"pooling_mode": "cls", "include_prompt": False}},
    ],
)
def test_sentence_modules_beyond_pooling_are_unsupported(tmp_path: Path, files: dict[str, object]) -> None:
    with pytest.raises(ModelUnsupported):
        read_architecture(folder_with(tmp_path, BERT, **files), "embed")


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        {key: value for key, value in BERT.items() if key != "hidden_size"},
        BERT | {"num_attention_heads": 5},
        BERT | {"num_hidden_layers": 0},
        BERT | {"num_hidden_layers": 10**9},
        BERT | {"hidden_size": float("inf")},
        BERT | {"model_type": "roberta", "pad_token_id": -100},
        BERT | {"vocab_size": "many"},
        BERT | {"max_position_embeddings": 2, "model_type": "roberta"},
    ],
)
def test_a_config_that_describes_no_model_is_damaged(tmp_path: Path, config: object) -> None:
    with pytest.raises(ModelDamaged, match=r"config\.json: "):
        read_architecture(folder_with(tmp_path, config), "classify")


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        read_architecture(tmp_path, "classify")


@pytest.mark.parametrize(
    "files",
    [
        {"modules": ["Transformer"]},
        {"modules": [None]},
        {"modules": [{"type": "x.Pooling", "path": "1_Pooling"}]},
        {"modules": [{"type": "x.Pooling", "path": "../elsewhere"}]},
        {"modules": {"type": "x.Pooling"}},
    ],
)
def test_modules_that_are_none_are_damage(tmp_path: Path, files: dict[str, object]) -> None:
    with pytest.raises(ModelDamaged):
        read_architecture(folder_with(tmp_path, BERT, **files), "embed")


def test_a_cross_encoder_of_more_modules_is_left_to_sentence_transformers(tmp_path: Path) -> None:
    dense = {"modules": [*POOLED["modules"], {"type": "x.Dense", "path": "2_Dense"}]}
    with pytest.raises(ModelUnsupported, match=r"modules\.json: module 'Pooling'"):
        read_architecture(folder_with(tmp_path, BERT, **dense), "classify")


def test_length_limits_of_questions_and_passages_apart_are_unsupported(tmp_path: Path) -> None:
    files = {"modules": [], "sentence_bert_config": {"query_length": 16}}
    with pytest.raises(ModelUnsupported, match="limits questions and passages apart"):
        sentence_settings(folder_with(tmp_path, BERT, **files))

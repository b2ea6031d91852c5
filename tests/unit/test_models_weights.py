import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from engine.models.architecture import Architecture, Task, read_architecture
from engine.models.torch_runtime import tensors_of
from engine.models.weights import expected_tensors, open_weights

CONFIG = {
    "model_type": "xlm-roberta",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "vocab_size": 50,
    "type_vocab_size": 1,
    "id2label": {"0": "relevant"},
}
FILE = "model.safetensors"


def architecture_in(folder: Path, task: Task = "classify") -> Architecture:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return read_architecture(folder, task)


def random_tensors(architecture: Architecture, base: str = "roberta.") -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in expected_tensors(architecture, base).values()}


def test_tensors_come_by_our_names_in_the_type_they_are_stored_in(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    stored = random_tensors(architecture)
    save_file({name: tensor.half() for name, tensor in stored.items()}, tmp_path / FILE)
    tensors = open_weights(tmp_path, architecture)
    assert set(tensors) == set(expected_tensors(architecture, "roberta."))
    up = tensors["layers.1.up.weight"]
    assert (up.kind, up.data.dtype) == ("F16", np.float16)
    expected = stored["roberta.encoder.layer.1.intermediate.dense.weight"].half()
    np.testing.assert_array_equal(up.floats(), expected.float().numpy())
    np.testing.assert_array_equal(up.floats(np.array([3, 0])), expected[[3, 0]].float().numpy())


def test_bf16_is_the_upper_half_of_fp32(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    stored = random_tensors(architecture)
    save_file({name: tensor.bfloat16() for name, tensor in stored.items()}, tmp_path / FILE)
    words = open_weights(tmp_path, architecture)["words"]
    expected = stored["roberta.embeddings.word_embeddings.weight"].bfloat16().float().numpy()
    np.testing.assert_array_equal(words.floats(), expected)
    np.testing.assert_array_equal(words.floats(np.array([7, 7, 1])), expected[[7, 7, 1]])


def test_fp32_is_the_mapped_file_itself(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    save_file(random_tensors(architecture), tmp_path / FILE)
    words = open_weights(tmp_path, architecture)["words"]
    assert np.shares_memory(words.floats(), words.data)


@pytest.mark.parametrize("spaces", range(1, 8))
def test_numbers_that_begin_at_any_byte_are_read(tmp_path: Path, spaces: int) -> None:
    """Writers other than safetensors' own need not pad the header."""
    architecture = architecture_in(tmp_path)
    stored = random_tensors(architecture)
    save_file(stored, tmp_path / FILE)
    whole = (tmp_path / FILE).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length] + b" " * spaces
    (tmp_path / FILE).write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    found = open_weights(tmp_path, architecture)["head.dense.weight"]
    np.testing.assert_array_equal(found.floats(), stored["classifier.dense.weight"].numpy())
    assert torch.equal(tensors_of({"one": found})["one"], stored["classifier.dense.weight"])


def test_a_bare_encoder_is_read_without_its_prefix(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path, "embed")
    save_file(random_tensors(architecture, ""), tmp_path / FILE)
    assert open_weights(tmp_path, architecture)["words"].data.shape == (50, 16)


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    stored = random_tensors(architecture)
    names = sorted(stored)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: stored[name] for name in held}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (tmp_path / f"{FILE}.index.json").write_text(json.dumps(index))
    assert set(open_weights(tmp_path, architecture)) == set(expected_tensors(architecture, "roberta."))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ModelDamaged, match=r"b\.safetensors: is missing"):
        open_weights(tmp_path, architecture)


def test_a_missing_tensor_is_named_with_its_file(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    stored = random_tensors(architecture)
    del stored["classifier.dense.bias"]
    save_file(stored, tmp_path / FILE)
    with pytest.raises(ModelDamaged, match=r"model\.safetensors: lacks classifier\.dense\.bias"):
        open_weights(tmp_path, architecture)


def test_a_layer_too_many_is_damage(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    extra = {"roberta.encoder.layer.2.output.dense.bias": torch.zeros(16)}
    save_file(random_tensors(architecture) | extra, tmp_path / FILE)
    with pytest.raises(ModelDamaged, match=r"layer\.2.*config\.json"):
        open_weights(tmp_path, architecture)


@pytest.mark.parametrize("extra", ["lm_head.dense.weight", "roberta.pooler.dense.weight", "classifier.out_proj.bias"])
def test_an_embedding_model_may_carry_heads_it_does_not_read(tmp_path: Path, extra: str) -> None:
    architecture = architecture_in(tmp_path, "embed")
    save_file(random_tensors(architecture) | {extra: torch.zeros(16)}, tmp_path / FILE)
    assert not any(name.startswith("head") for name in open_weights(tmp_path, architecture))


def test_a_foreign_shape_is_damage(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    name = "roberta.embeddings.word_embeddings.weight"
    save_file(random_tensors(architecture) | {name: torch.zeros(49, 16)}, tmp_path / FILE)
    with pytest.raises(ModelDamaged, match=r"word_embeddings\.weight is \[49, 16\] where config\.json says \[50, 16\]"):
        open_weights(tmp_path, architecture)


@pytest.mark.parametrize(
    ("stored_as", "error"), [(torch.float64, ModelUnsupported), (torch.int64, ModelDamaged), (torch.bool, ModelDamaged)]
)
def test_numbers_that_are_no_floats_of_ours_are_refused(
    tmp_path: Path, stored_as: torch.dtype, error: type[Exception]
) -> None:
    architecture = architecture_in(tmp_path)
    tensors = random_tensors(architecture)
    name = "classifier.out_proj.weight"
    save_file({**tensors, name: tensors[name].to(stored_as)}, tmp_path / FILE)
    with pytest.raises(error, match=f"{name} is stored as"):
        open_weights(tmp_path, architecture)


def test_the_old_names_of_layer_norms_are_known(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    tensors = random_tensors(architecture)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    save_file(old, tmp_path / FILE)
    found = open_weights(tmp_path, architecture)
    np.testing.assert_array_equal(found["norm.weight"].floats(), tensors["roberta.embeddings.LayerNorm.weight"])


@pytest.mark.parametrize("listed", [{"a": "x" * 5000}, ["a"], 5, {}])
def test_an_index_that_lists_no_shards_is_damage(tmp_path: Path, listed: object) -> None:
    architecture = architecture_in(tmp_path)
    (tmp_path / f"{FILE}.index.json").write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(ModelDamaged):
        open_weights(tmp_path, architecture)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_a_file_cut_short_is_damage(tmp_path: Path, share: float) -> None:
    architecture = architecture_in(tmp_path)
    save_file(random_tensors(architecture), tmp_path / FILE)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelDamaged, match=r"model\.safetensors: cannot be read"):
        open_weights(tmp_path, architecture)


def test_a_pickled_checkpoint_is_never_opened(tmp_path: Path) -> None:
    architecture = architecture_in(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04anything")
    with pytest.raises(ModelUnsupported, match=r"pytorch_model\.bin: a pickled checkpoint"):
        open_weights(tmp_path, architecture)


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="safetensors"):
        open_weights(tmp_path, architecture_in(tmp_path))

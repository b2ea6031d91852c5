"""The package that models ship in: what is packed comes back to the bit, and damage is seen and named."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.errors import InvalidOption, ModelDamaged, ModelUnsupported, StorageError
from engine.models import compact
from engine.settings import SHIPPED, SHIPPED_RERANKER

BI, CROSS = SHIPPED
WEIGHTS = "model.safetensors"


def rounded(rows, columns, seed):
    """A matrix as a 4-bit rounding leaves it: multiples of a group's scale, the one furthest from zero its -8th."""
    random = np.random.default_rng(seed)
    codes = random.integers(-7, 8, (rows, columns // 32, 32))
    codes[..., 0] = -8
    scales = random.normal(0, 0.01, (rows, columns // 32, 1)).astype(np.float16).astype(np.float32)
    return (scales * codes.astype(np.float32)).astype(np.float16).reshape(rows, columns)


@pytest.fixture
def models(tmp_path):
    """Two models: shared words, of which one was rounded to 4 bits; the second trained on, its tokenizer too."""
    words = rounded(50, 64, 1)
    random = np.random.default_rng(2)
    tokenizer = {"truncation": None, "padding": None, "model": {"type": "WordPiece", "vocab": {"é": 0, "b": 1}}}
    cut = tokenizer | {"truncation": {"max_length": 224}, "padding": {"pad_id": 1}}
    own = {
        BI: {"words": words, "layer": rounded(64, 96, 3), "norm": np.ones(64, np.float16), "table": np.eye(3)},
        CROSS: {
            "bert.words": words,
            "bert.layer": random.normal(0, 1, (64, 96)).astype(np.float16),
            "bert.norm": np.ones(64, np.float16),
            "ids": np.arange(5),
            "classifier.bias": np.zeros((), np.float32),
        },
    }
    folders = {}
    for name, tensors in own.items():
        folder = folders[name] = tmp_path / "models" / name
        (folder / "1_Pooling").mkdir(parents=True)
        (folder / "checkpoint-8").mkdir()
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(tokenizer if name == BI else cut, indent=2, ensure_ascii=False)
        files = {
            "config.json": json.dumps({"of": name}),
            "README.md": f"# {name}, le modèle",
            "tokenizer.json": text,
            "modules.json": json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}]),
            "1_Pooling/config.json": "{}",
            "checkpoint-8/config.json": "{}",
            "trainer_state.json": "{}",
            "training_args.bin": "pickle",
        }
        for file, content in files.items():
            (folder / file).write_text(content, "utf-8")
    return folders


@pytest.fixture
def package(models, tmp_path):
    compact.pack(models, tmp_path / "package")
    return tmp_path / "package"


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_comes_back_to_the_bit_without_what_its_training_left(package, models, tmp_path, name):
    compact.unpack(package, name, tmp_path / "out")
    wanted, found = files_of(models[name]), files_of(tmp_path / "out")
    for left in ("checkpoint-8/config.json", "trainer_state.json", "training_args.bin"):
        del wanted[left]
    # The lengths that the last batch of a training was cut and padded to.
    wanted["tokenizer.json"] = files_of(models[BI])["tokenizer.json"]
    assert found == wanted


def test_what_was_rounded_to_4_bits_is_stored_so_and_what_both_models_have_is_stored_once(package, models, tmp_path):
    stored = {one.name: one for one in compact.pack(models, package)}
    assert stored[BI][2:] == (2, 2, 0)
    assert stored[CROSS][2:] == (0, 3, 2)
    assert (package / BI / compact.TENSORS).stat().st_size < 0.4 * (models[BI] / WEIGHTS).stat().st_size
    assert not (package / CROSS / "tokenizer.json").exists()
    assert stored[CROSS].size == sum(map(len, files_of(package / CROSS).values()))


def test_the_first_model_is_packed_the_same_whatever_follows(package, models, tmp_path):
    compact.pack({BI: models[BI]}, tmp_path / "alone")
    assert files_of(tmp_path / "alone" / BI) == files_of(package / BI)


def test_the_checksums_are_those_of_sha256sum(package):
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=package / CROSS, check=True)
    listed = (package / CROSS / "SHA256SUMS").read_text("ascii")
    assert f"  ../{BI}/{compact.TENSORS}\n" in listed


@pytest.mark.parametrize("file", [f"{CROSS}/config.json", f"{BI}/{compact.TENSORS}", f"{CROSS}/{compact.MANIFEST}"])
def test_a_flipped_bit_is_named(package, tmp_path, file):
    content = bytearray((package / file).read_bytes())
    content[len(content) // 2] ^= 1
    (package / file).write_bytes(content)
    with pytest.raises(ModelDamaged, match=rf"{re.escape(str(package / file))}: is not what its checksum says"):
        compact.unpack(package, CROSS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", [f"{BI}/tokenizer.json", f"{CROSS}/{compact.SUMS}"])
def test_a_missing_file_is_named(package, tmp_path, file):
    (package / file).unlink()
    with pytest.raises(ModelDamaged, match=re.escape(str(package / file))):
        compact.unpack(package, CROSS, tmp_path / "out")


def test_checksums_that_list_nothing_are_damage(package, tmp_path):
    (package / CROSS / compact.SUMS).write_bytes(b"")
    with pytest.raises(ModelDamaged, match="SHA256SUMS"):
        compact.unpack(package, CROSS, tmp_path / "out")


def test_a_package_of_a_newer_fouille_is_told(package, models, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "FORMAT", 2)
    compact.pack(models, package)
    monkeypatch.undo()
    with pytest.raises(ModelUnsupported, match="newer"):
        compact.unpack(package, BI, tmp_path / "out")


def test_a_folder_that_holds_something_is_not_written_over(package, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mien.txt").write_text("à moi")
    with pytest.raises(StorageError, match="out"):
        compact.unpack(package, BI, tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"mien.txt"}
    with pytest.raises(InvalidOption, match="other than a package"):
        compact.pack({}, tmp_path / "models" / BI)


def test_packing_again_replaces_the_package_and_leaves_nothing_beside_it(package, models):
    compact.pack({BI: models[BI]}, package)
    assert [path.name for path in package.iterdir()] == [BI]
    assert {path.name for path in package.parent.iterdir()} == {"models", "package"}


def test_a_model_without_weights_leaves_the_old_package(package, models):
    before = files_of(package)
    (models[CROSS] / WEIGHTS).unlink()
    with pytest.raises(ModelDamaged, match=r"model\.safetensors: is missing"):
        compact.pack(models, package)
    (models[CROSS] / WEIGHTS).write_bytes(b"\0" * 4)
    with pytest.raises(ModelDamaged, match=r"model\.safetensors: cannot be read"):
        compact.pack(models, package)
    assert files_of(package) == before


def test_unpacking_loads_neither_torch_nor_transformers():
    code = "import sys, engine.models.compact; print(*{'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# Of the bi-encoder every matrix was rounded to 4 bits, but for positions and token types; the cross-encoder's upper six
# layers were trained on.
@pytest.mark.parametrize(("name", "four_bit", "megabytes"), [("me5-small-fr", 73, 24), ("xenc-fr-l12", 37, 40)])
def test_a_real_model_comes_back_to_the_bit(shared, tmp_path, name, four_bit, megabytes):
    (stored,) = compact.pack({name: shared / "models" / name}, tmp_path / "package")
    assert stored.four_bit == four_bit
    assert stored.size < megabytes * 1e6
    compact.unpack(tmp_path / "package", name, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (shared / "models" / name / WEIGHTS).read_bytes()


def test_the_package_of_this_copy_is_sound_and_light(tmp_path):
    package = Path(compact.__file__).parent / "shipped"
    if not package.is_dir():
        pytest.skip("this copy ships without models")
    assert sum(map(len, files_of(package).values())) <= 48e6
    for name in SHIPPED:
        compact.unpack(package, name, tmp_path / name)
        assert re.search("MIT", (tmp_path / name / "README.md").read_text("utf-8"), re.IGNORECASE)
    assert "interpolate" in json.loads((tmp_path / SHIPPED_RERANKER / "config.json").read_bytes()).get("fouille", {})

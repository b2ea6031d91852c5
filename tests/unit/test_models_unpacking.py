"""The models that ship: unpacked once, by one or by several processes, wherever something can be written."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from engine.errors import ModelDamaged, StorageError
from engine.models import compact, registry, unpacking
from engine.models.folders import put_in_place
from engine.settings import SHIPPED, SHIPPED_ENCODER, SHIPPED_RERANKER, cache_dir

ROOT = Path(__file__).parents[2]
SHOW = "from engine.models.registry import locate; print(locate({name!r}))"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """A package of both models."""
    package = tmp_path_factory.mktemp("ships") / "package"
    compact.pack({SHIPPED_ENCODER: tiny.encoder, SHIPPED_RERANKER: tiny.reranker}, package)
    return package


@pytest.fixture
def package(whole, tmp_path, monkeypatch):
    """The package as this copy's own, and a cache folder that holds nothing yet."""
    copy = shutil.copytree(whole, tmp_path / "package")
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", str(copy))
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(unpacking, "_of_this_process", {})
    return copy


def same_weights(folder, other):
    return (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_model_that_ships_is_unpacked_once_under_its_own_name(package, tiny, monkeypatch):
    assert unpacking.found(SHIPPED_ENCODER) is None
    folder = registry.locate(SHIPPED_ENCODER)
    assert folder is not None
    assert folder.name == SHIPPED_ENCODER
    assert folder.is_relative_to(cache_dir())
    assert same_weights(folder, tiny.encoder)
    monkeypatch.setattr(compact, "unpack", lambda *_: pytest.fail("unpacked again"))
    assert registry.locate(SHIPPED_ENCODER) == unpacking.found(SHIPPED_ENCODER) == folder


def test_a_folder_of_that_name_in_the_working_directory_is_not_taken_for_it(package, tmp_path, monkeypatch):
    (tmp_path / SHIPPED_ENCODER).mkdir()
    monkeypatch.chdir(tmp_path)
    assert registry.locate(SHIPPED_ENCODER) == unpacking.found(SHIPPED_ENCODER)
    assert registry.locate(f"./{SHIPPED_ENCODER}") == Path(SHIPPED_ENCODER)


def test_another_package_gets_another_folder(package, tiny):
    first = registry.locate(SHIPPED_RERANKER)
    compact.pack({SHIPPED_RERANKER: tiny.reranker}, package)
    second = registry.locate(SHIPPED_RERANKER)
    assert first != second
    assert same_weights(first, second)


def test_a_package_may_lack_one_of_the_models(package):
    shutil.rmtree(package / SHIPPED_RERANKER)
    assert registry.locate(SHIPPED_RERANKER) is None
    assert registry.locate(SHIPPED_ENCODER) is not None
    assert {model.name for model in registry.obtainable()} & set(SHIPPED) == {SHIPPED_ENCODER}


def test_an_empty_variable_does_without_the_models_that_ship(package, monkeypatch):
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", "")
    assert [registry.locate(name) for name in SHIPPED] == [None, None]


def test_damage_is_told_and_nothing_is_left_in_the_cache(package):
    (package / SHIPPED_RERANKER / compact.TENSORS).write_bytes(b"")
    with pytest.raises(ModelDamaged, match=r"compact\.safetensors: .*install fouille again"):
        registry.locate(SHIPPED_RERANKER)
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_what_a_cleaner_of_caches_left_is_unpacked_anew(package, tiny):
    folder = registry.locate(SHIPPED_ENCODER)
    (folder / "model.safetensors").unlink()
    assert registry.locate(SHIPPED_ENCODER) == folder
    assert same_weights(folder, tiny.encoder)


def test_processes_at_once_all_get_a_whole_folder(package, tiny):
    command = [sys.executable, "-c", SHOW.format(name=SHIPPED_RERANKER)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    folders = {Path(process.communicate()[0].strip()) for process in running}
    assert [process.returncode for process in running] == [0] * 4
    (folder,) = folders
    assert same_weights(folder, tiny.reranker)
    assert [path.name for path in folder.parent.iterdir()] == [SHIPPED_RERANKER]


def test_one_that_comes_second_takes_the_folder_of_the_first(package, tiny, monkeypatch):
    unpack = compact.unpack

    def outrun(package, name, folder):
        unpack(package, name, folder)
        unpack(package, name, folder)

    monkeypatch.setattr(compact, "unpack", outrun)
    folder = registry.locate(SHIPPED_ENCODER)
    assert folder.is_relative_to(cache_dir())
    assert same_weights(folder, tiny.encoder)


def test_a_process_that_was_killed_in_the_middle_does_no_harm_and_is_swept_later(package, tiny):
    code = f"""
import os
from engine.models import folders
whole = folders.write
def killed(path, chunks):
    whole(path, chunks)
    os._exit(9)
folders.write = killed
{SHOW.format(name=SHIPPED_ENCODER)}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (9, b"")
    (left,) = (path for path in cache_dir().glob("models/*/.*") if path.is_dir())
    folder = registry.locate(SHIPPED_ENCODER)
    assert same_weights(folder, tiny.encoder)
    assert left.exists()  # it may be another process at work
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))
    shutil.rmtree(folder)
    registry.locate(SHIPPED_ENCODER)
    assert not left.exists()


def test_without_a_cache_that_can_be_written_the_process_has_a_folder_of_its_own(package, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = f"from engine.models.registry import locate; a = locate({SHIPPED_ENCODER!r}); assert a == locate(a.name)\n"
    code += "print(a, (a / 'model.safetensors').is_file())"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    folder, there = done.stdout.split()
    assert there == "True"
    assert Path(folder).is_relative_to(temporary)
    assert list(temporary.iterdir()) == []  # it goes with the process


def test_without_any_place_to_write_it_is_told(package, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(tmp_path / "cache"))
    from engine.errors import StorageError

    with pytest.raises(StorageError, match="cache"):
        registry.locate(SHIPPED_ENCODER)


def test_what_cannot_be_read_is_told_apart_from_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for source, where in ((tmp_path / "absent", tmp_path / "absent"), (None, tmp_path / "file" / "new")):
        target = tmp_path / "new" if source else tmp_path / "file" / "new"
        with pytest.raises(StorageError) as raised, put_in_place(target):
            source.read_bytes()
        assert str(raised.value).startswith(f"{where}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

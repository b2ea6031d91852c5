"""What is shipped: the wheel works from another folder, and the README tells the truth about the commands."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from engine.models.compact import pack
from engine.settings import SHIPPED_ENCODER, SHIPPED_RERANKER

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory, tiny):
    """An environment that holds the wheel and nothing of this folder; the libraries it needs are lent by ours.

    Toy models stand in for those that ship.
    """
    base = tmp_path_factory.mktemp("wheel")
    # setuptools builds from a copy, so that nothing is written beside the sources.
    sources = base / "sources"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("engine/models/shipped/"):
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).write_bytes((ROOT / name).read_bytes())
    pack({SHIPPED_ENCODER: tiny.encoder, SHIPPED_RERANKER: tiny.reranker}, sources / "engine" / "models" / "shipped")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(base), str(sources)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = base.glob("fouille-*.whl")
    venv.create(base / "env", with_pip=False)
    python = base / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = (base / "env" / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"], "utf-8")
    return base / "env" / "bin"


def test_the_installed_command_indexes_and_searches_the_sample_that_it_ships(installed, tmp_path):
    where = [str(installed / "python"), "-c", "import engine.sample as s; print(s.DOCUMENTS)"]
    sample = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert str(ROOT) not in sample
    command = [str(installed / "fouille"), "index", sample, "-c", str(tmp_path / "c"), "--first-stage", "bm25"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    command = [str(installed / "fouille"), "search", "détergent graisse", "-c", str(tmp_path / "c"), "--no-rerank"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "documents/" in found


def test_the_wheel_holds_the_models_that_ship_and_unpacks_them(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "FOUILLE_SHIPPED_DIR"}
    command = [str(installed / "fouille"), "models", "export", SHIPPED_RERANKER, str(tmp_path / "mine")]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= {"model.safetensors", "tokenizer.json"}


def commands():
    """Every command of the README's console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_work_in_the_order_they_stand(tmp_path):
    environment = os.environ | {f"FOUILLE_{kind}_DIR": str(tmp_path / kind) for kind in ("DATA", "CACHE", "CONFIG")}
    environment |= {"HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    (tmp_path / "engine").symlink_to(ROOT / "engine")
    assert commands()
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_readme_names_every_command_and_the_two_that_a_newcomer_types():
    readme = (ROOT / "README.md").read_text("utf-8")
    command = [sys.executable, "-m", "cli", "--help"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  (\w+) {2,}\S", listing.partition("Commands:")[2], re.MULTILINE)
    assert len(names) >= 10
    assert [name for name in names if f"fouille {name}" not in readme] == []
    assert "make demo" in readme
    assert "make test" in readme


def test_every_dependency_has_its_line_of_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.match(r"[A-Za-z0-9_-]+", line)[0] for line in project["dependencies"]]
    readme = (ROOT / "README.md").read_text("utf-8").lower()
    assert [name for name in names if f"`{name.lower()}`" not in readme] == []

"""The models that ship are what a new collection takes, and nothing touches them that does not need them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyserini")

import cli
from engine import Collection, Document, SearchOptions
from engine.models import compact
from engine.models.export import export
from engine.settings import SHIPPED, SHIPPED_ENCODER, SHIPPED_RERANKER, Settings, cache_dir, resolve
from engine.terminal import known_models
from engine.terminal.style import PLAIN

ROOT = Path(__file__).parents[2]
ANIMALS = [Document("cheval", "Le cheval mange de l'herbe."), Document("chat", "Le chat dort sur le canapé.")]
ALONE = SearchOptions(first_stage="bm25", rerank=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """A package of both models; the cross-encoder recommends a weight for the first stage."""
    base = tmp_path_factory.mktemp("ships")
    reranker = export(str(tiny.reranker), base / "reranker")
    config = json.loads((reranker / "config.json").read_bytes())
    recommended = {"interpolate": {"bm25": 0.5, "hybrid": 1.5}, "candidates": 1}
    (reranker / "config.json").write_text(json.dumps(config | {"fouille": recommended}))
    compact.pack({SHIPPED_ENCODER: tiny.encoder, SHIPPED_RERANKER: reranker}, base / "package")
    return base / "package"


@pytest.fixture
def package(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", str(whole))
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    return whole


def models_loaded_by(collection):
    return {*collection.shelf._encoders, *collection.shelf._rerankers}


def test_without_a_package_the_defaults_are_names_of_the_hub():
    settings = Settings()
    assert {settings.encoder_or_default, settings.reranker_or_default}.isdisjoint(SHIPPED)


def test_a_package_of_one_model_changes_one_default(package, tmp_path, tiny, monkeypatch):
    compact.pack({SHIPPED_ENCODER: tiny.encoder}, tmp_path / "one")
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", str(tmp_path / "one"))
    settings = Settings()
    assert (settings.encoder_or_default, settings.reranker_or_default in SHIPPED) == (SHIPPED_ENCODER, False)


def test_a_plain_collection_is_hybrid_and_its_search_is_reranked_with_the_weight_that_the_model_recommends(
    package, tmp_path
):
    with Collection.create(tmp_path / "c", settings=Settings(precision="fp32")) as collection:
        collection.add(ANIMALS)
        assert [collection.memory[name] for name in ("first_stage", "encoder", "reranker")] == ["hybrid", *SHIPPED]
        result = collection.search("le chat")
        assert (result.first_stage, result.reranker, result.notices) == ("hybrid", SHIPPED_RERANKER, ())
        for stage, weight in ((None, 1.5), ("hybrid", 1.5), ("bm25", 0.5), ("dense", 0.5)):
            hit = collection.search("le cheval mange, le chat", SearchOptions(candidates=2, first_stage=stage)).hits[0]
            assert hit.first_stage_z != 0
            assert hit.score == pytest.approx(hit.rerank_logit + weight * hit.first_stage_z, abs=1e-4)


def test_as_many_candidates_are_reranked_as_the_model_recommends(package, tmp_path):
    with Collection.create(tmp_path / "c", settings=Settings(precision="fp32")) as collection:
        collection.add(ANIMALS)
        ask = {given: SearchOptions(k=1, candidates=given) for given in (None, 2)}
        found = {given: collection.search("le chat et le cheval", options).candidates for given, options in ask.items()}
        assert found == {None: 1, 2: 2}
        collection.remember(candidates=2)
        assert collection.search("le chat et le cheval", SearchOptions(k=1)).candidates == 2


def test_bm25_alone_reads_no_package_and_loads_no_model(package, tmp_path):
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add(ANIMALS)
        assert [hit.key for hit in collection.search("chat", ALONE).hits] == ["chat"]
        assert models_loaded_by(collection) == set()
    assert not (cache_dir() / "models").exists()


def test_a_hybrid_collection_asked_for_bm25_alone_loads_no_model(package, tmp_path):
    with Collection.create(tmp_path / "c", settings=Settings(precision="fp32")) as collection:
        collection.add(ANIMALS)
    with Collection.open(tmp_path / "c") as collection:
        assert [hit.key for hit in collection.search("chat", ALONE).hits] == ["chat"]
        assert models_loaded_by(collection) == set()


def test_a_cold_search_of_bm25_alone_survives_a_damaged_package(package, tmp_path, monkeypatch):
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add(ANIMALS)
    for name in SHIPPED:
        (tmp_path / "damaged" / name).mkdir(parents=True)
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", str(tmp_path / "damaged"))
    command = [sys.executable, "-m", "cli", "search", "chat", "-c", str(tmp_path / "c")]
    run = [
        subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True) for more in (["--no-rerank"], [])
    ]
    assert "chat" in run[0].stdout
    assert (run[1].returncode, "SHA256SUMS: cannot be read" in run[1].stderr) == (2, True)


def test_a_collection_keeps_the_models_that_it_was_made_with(package, tmp_path, tiny, monkeypatch):
    options = {"first_stage": "hybrid", "encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
    with Collection.create(tmp_path / "c", **options, settings=Settings(precision="fp32")) as collection:
        collection.add(ANIMALS)
    with Collection.open(tmp_path / "c") as collection:
        assert collection.search("le chat").reranker == str(tiny.reranker)
    assert not (cache_dir() / "models").exists()


def test_a_collection_made_with_them_still_answers_where_they_are_missing(package, tmp_path, monkeypatch):
    with Collection.create(tmp_path / "c", settings=Settings(precision="fp32")) as collection:
        collection.add(ANIMALS)
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", "")
    with Collection.open(tmp_path / "c") as collection:
        result = collection.search("chat")
    assert (result.hits[0].key, result.first_stage, result.reranker, len(result.notices)) == ("chat", "bm25", None, 2)


def test_the_list_of_models_begins_with_them_and_unpacks_nothing(package):
    found = known_models.models_record(resolve())
    shown = known_models.render(found, PLAIN)
    assert [model["name"] for model in found[:2]] == [SHIPPED_RERANKER, SHIPPED_ENCODER]
    assert f"✓ {SHIPPED_RERANKER} (default)" in shown
    assert f"✓ {SHIPPED_ENCODER} (default)" in shown
    assert "fouille models export" in shown
    assert not (cache_dir() / "models").exists()


def test_export_writes_a_whole_folder_and_refuses_one_that_holds_something(package, tmp_path, tiny, capsys):
    for code in (0, 2):
        with pytest.raises(SystemExit) as ended:
            cli.main(["models", "export", SHIPPED_ENCODER, str(tmp_path / "mine")])
        assert ended.value.code == code
    assert "the folder is taken" in capsys.readouterr().err
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == (tiny.encoder / "model.safetensors").read_bytes()


def test_export_copies_what_a_model_needs_and_no_more(tiny, tmp_path):
    source = export(str(tiny.reranker), tmp_path / "source")
    (source / "onnx").mkdir()
    for name in ("README.md", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", ".DS_Store"):
        (source / name).write_text("x")
    made = export(str(source), tmp_path / "made")
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}

"""What the flags of `fouille index` make of a collection that is there, or is not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unicodedata import normalize

import pytest

pytest.importorskip("pyserini")

from engine.collection import Collection
from engine.documents import Source, open_source
from engine.errors import (
    CollectionDamaged,
    CollectionNotFound,
    CollectionOutdated,
    DocumentError,
    ModelDamaged,
    ModelNotFound,
    ModelUnsupported,
)
from engine.records import AddReport, SearchOptions
from engine.settings import Settings
from engine.terminal.indexing import Asked, bring_up_to_date, known_locations
from engine.terminal.lookup import keys_at

Index = Callable[..., AddReport]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "collection"


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def index(tmp_path: Path, target: Path, notes: list[str]) -> Index:
    """Indexes a folder of one document into a collection, as the flags say."""
    (tmp_path / "ferme").mkdir()
    (tmp_path / "ferme" / "cheval.txt").write_text("Le cheval tire la charrue.", encoding="utf-8")

    def run(asked: Asked, folder: str = "ferme", *, rebuild: bool = False, strict: bool = False) -> AddReport:
        return bring_up_to_date(
            Settings(collection=str(target)),
            [open_source(str(tmp_path / folder))],
            asked,
            prune=False,
            rebuild=rebuild,
            strict=strict,
            notify=notes.append,
        )

    return run


def test_where_documents_came_from_is_known(index: Index, target: Path, tmp_path: Path) -> None:
    settings = Settings(collection=str(target))
    assert known_locations(settings) == frozenset()
    index(Asked(first_stage="bm25"))
    assert known_locations(settings) == {str(tmp_path / "ferme")}


def memory(target: Path, name: str) -> object:
    with Collection.open(target) as collection:
        return collection.memory[name]


def test_a_new_collection_without_an_encoder_at_hand_says_so(index: Index, target: Path, notes: list[str]) -> None:
    assert index(Asked()).added == 1
    assert memory(target, "first_stage") == "bm25"
    assert len(notes) == 1
    assert "BM25 alone" in notes[0]


def test_who_asks_for_bm25_hears_nothing_of_encoders(index: Index, notes: list[str]) -> None:
    index(Asked(first_stage="bm25"))
    assert notes == []


def test_a_collection_that_another_process_made_meanwhile_is_used(
    index: Index, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_early(path: Path, **_: object) -> None:
        monkeypatch.undo()
        Collection.create(path, first_stage="bm25").close()
        raise CollectionNotFound("nothing there yet", where=path)

    monkeypatch.setattr(Collection, "open", too_early)
    assert index(Asked()).added == 1
    assert memory(target, "first_stage") == "bm25"


def test_what_holds_nothing_to_index_makes_no_collection(
    index: Index, tmp_path: Path, target: Path, notes: list[str]
) -> None:
    (tmp_path / "ferme" / "cheval.txt").write_bytes(bytes(range(32)))
    report = index(Asked(first_stage="bm25"))
    assert (report.rejected, report.passages) == (1, 0)
    assert report.notices == ["nothing could be indexed: no collection was made"]
    assert notes == []
    assert not target.exists()


def test_an_interrupt_before_the_first_document_leaves_no_collection(
    index: Index, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Source, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index(Asked(first_stage="bm25"))
    assert not target.exists()


def test_indexing_again_changes_nothing(index: Index) -> None:
    index(Asked(first_stage="bm25"))
    again = index(Asked(first_stage="bm25", splitter="words:150:30"))
    assert (again.added, again.unchanged) == (0, 1)


def test_another_splitter_wants_a_rebuild(index: Index, target: Path) -> None:
    index(Asked(first_stage="bm25"))
    with pytest.raises(CollectionOutdated, match="--rebuild"):
        index(Asked(splitter="none"))
    index(Asked(splitter="none"), rebuild=True)
    assert memory(target, "splitter") == "none"


def test_an_index_is_not_dropped_without_a_rebuild(index: Index) -> None:
    index(Asked(first_stage="bm25"))
    with pytest.raises(CollectionOutdated, match="--rebuild"):
        index(Asked(first_stage="dense"))


@pytest.mark.parametrize("asked", [Asked(encoder="un/modele"), Asked(first_stage="bm25", reranker="un/modele")])
def test_a_model_that_cannot_be_had_makes_no_collection(asked: Asked, index: Index, target: Path) -> None:
    with pytest.raises(ModelNotFound, match="un/modele"):
        index(asked)
    assert not target.exists()


def test_an_encoder_named_later_adds_vectors(index: Index, target: Path, shared: Path) -> None:
    index(Asked(first_stage="bm25"))
    index(Asked(encoder=str(shared / "models" / "me5-small-fr")))
    with Collection.open(target) as collection:
        assert collection.verify()["state"] == "sound"
        assert collection.search("cheval", SearchOptions(first_stage="dense", rerank=False)).hits
    with pytest.raises(CollectionOutdated, match="un/autre"):
        index(Asked(encoder="un/autre"))


def test_a_reranker_named_later_is_remembered(index: Index, target: Path, tmp_path: Path) -> None:
    index(Asked(first_stage="bm25"))
    (tmp_path / "modele").mkdir()
    with pytest.raises(ModelDamaged):
        index(Asked(reranker=str(tmp_path / "modele")))
    (tmp_path / "modele" / "config.json").write_text("{}")
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / "modele" / name).touch()
    index(Asked(reranker=str(tmp_path / "modele")))
    assert memory(target, "reranker") == str((tmp_path / "modele").resolve())


def test_models_are_what_they_are_named_for(index: Index, target: Path, tiny: SimpleNamespace) -> None:
    with pytest.raises(ModelUnsupported, match="base model"):
        index(Asked(first_stage="bm25", reranker=str(tiny.encoder)))
    with pytest.raises(ModelUnsupported, match="cross-encoder, which makes no vectors"):
        index(Asked(encoder=str(tiny.reranker)))
    assert not target.exists()
    index(Asked(first_stage="bm25"))
    with pytest.raises(ModelUnsupported, match="base model"):
        index(Asked(reranker=str(tiny.encoder)))


def test_a_source_that_is_gone_is_named(index: Index, tmp_path: Path) -> None:
    index(Asked(first_stage="bm25"))
    (tmp_path / "ferme").rename(tmp_path / "champ")
    report = index(Asked(first_stage="bm25"), "champ")
    gone = f"{tmp_path / 'ferme'} is gone, and its document is still found (fouille remove 'ferme/*')"
    assert gone in report.notices


def test_guessed_encodings_are_reported(index: Index, tmp_path: Path) -> None:
    (tmp_path / "ferme" / "vieux.txt").write_bytes("Où est passé l’été à Nœux ?".encode("cp1252"))
    report = index(Asked(first_stage="bm25"))
    assert report.notices == ["encodings were guessed: cp1252 for 1 (fouille show KEY says so of a document)"]
    assert index(Asked(first_stage="bm25")).notices == []


def test_a_rebuild_mends_a_collection_whose_generation_is_gone(index: Index, target: Path) -> None:
    index(Asked(first_stage="bm25"))
    shutil.rmtree(target / "g1")
    with pytest.raises(CollectionDamaged, match="--rebuild"):
        index(Asked())
    assert index(Asked(first_stage="bm25"), rebuild=True).added == 1
    with Collection.open(target) as collection:
        assert collection.verify()["state"] == "sound"


def test_a_source_is_named_by_all_it_brought_however_its_accents_are_typed(index: Index, target: Path) -> None:
    folder = target.with_name("été")
    folder.mkdir()
    lines = '{"id": "k1", "text": "Le cheval noir."}\n{"text": "Sans identifiant."}\n'
    (folder / "passé.jsonl").write_text(lines, encoding="utf-8")
    index(Asked(first_stage="bm25"), "été/passé.jsonl")
    with Collection.open(target) as collection:
        for form in ("NFC", "NFD"):
            assert keys_at(collection, normalize(form, "passé.jsonl")) == ["k1", "passé.jsonl#2"]


def test_strict_keeps_a_collection_that_holds_documents(index: Index, target: Path, tmp_path: Path) -> None:
    index(Asked(first_stage="bm25"))
    (tmp_path / "ferme" / "vide.txt").touch()
    with pytest.raises(DocumentError, match=r"vide\.txt"):
        index(Asked(), strict=True)
    with Collection.open(target) as collection:
        assert collection.info()["documents"] == 1


def test_strict_widens_nothing_before_all_is_read(index: Index, target: Path, tmp_path: Path, shared: Path) -> None:
    index(Asked(first_stage="bm25"))
    wanted = Asked(encoder=str(shared / "models" / "me5-small-fr"))
    (tmp_path / "ferme" / "vide.txt").touch()
    with pytest.raises(DocumentError):
        index(wanted, strict=True)
    assert memory(target, "first_stage") == "bm25"
    (tmp_path / "ferme" / "vide.txt").unlink()
    index(wanted, strict=True)
    with Collection.open(target) as collection:
        assert collection.verify()["state"] == "sound"
        assert collection.search("cheval", SearchOptions(first_stage="dense", rerank=False)).hits


def test_strict_makes_no_collection_of_bad_documents(index: Index, target: Path, tmp_path: Path) -> None:
    (tmp_path / "ferme" / "vide.txt").touch()
    with pytest.raises(DocumentError, match=r"vide\.txt"):
        index(Asked(first_stage="bm25"), strict=True)
    assert not target.exists()

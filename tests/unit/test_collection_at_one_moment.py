"""What a reader sees while others write: one commit, whole, and a word where an index lags behind it."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import engine.search
from engine import Collection, CrossEncoder, Document, SearchOptions
from engine.catalog import Catalog
from engine.errors import CollectionBusy, CollectionDamaged, ModelNotFound, StorageError
from engine.reader import Reader
from engine.settings import Settings
from indexes.bm25 import BM25Index

FIRST = SearchOptions(rerank=False)
CATS = [Document(f"chat{number}", f"Le chat numéro {number} dort.") for number in range(5)]


@pytest.fixture
def hybrid(tmp_path, tiny):
    options = {"first_stage": "hybrid", "encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
    with Collection.create(tmp_path / "hybrid", **options, settings=Settings(precision="fp32")) as collection:
        collection.add(CATS)
        yield collection


def meanwhile(monkeypatch, owner, name, do):
    """Do something before each call of a function or a method."""
    original = getattr(owner, name)

    def wrapped(*arguments, **named):
        do()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)


def test_what_is_replaced_while_the_reranker_reads_is_shown_as_it_was(hybrid, monkeypatch):
    def replace_all():
        with Collection.open(hybrid.path, shelf=hybrid.shelf) as other:
            other.add([Document(cat.key, f"{cat.text} Changé.") for cat in CATS])

    meanwhile(monkeypatch, CrossEncoder, "score_top", replace_all)
    result = hybrid.search("chat")
    assert sorted(hit.text for hit in result.hits) == [cat.text for cat in CATS]


def test_a_filter_finds_its_documents_whatever_was_purged_since_the_index_was_opened(hybrid, monkeypatch):
    added = iter(range(100))

    def add_one():
        with Collection.open(hybrid.path, shelf=hybrid.shelf) as other:
            other.add([Document(f"autre{next(added)}", "Un chat de plus.")])

    meanwhile(monkeypatch, engine.search, "plan", add_one)
    assert len(hybrid.search("chat", SearchOptions(keys="chat*", rerank=False)).hits) == len(CATS)


def test_an_index_that_moved_past_the_catalog_as_read_is_read_again(hybrid, monkeypatch):
    reader, moved = hybrid._reader, []

    def add_one():
        if not moved:
            moved.append(True)
            with Collection.open(hybrid.path, shelf=hybrid.shelf) as other:
                other.add([Document("autre", "Un chat de plus.")])

    meanwhile(monkeypatch, Reader, "refresh", add_one)
    with reader.steady():
        assert all(reader.catalog.holds(index.applied) for index in reader.indexes("hybrid"))
        assert moved


def test_a_collection_that_never_rests_is_busy(hybrid, monkeypatch):
    sequences = itertools.count(10)
    monkeypatch.setattr("engine.catalog.Catalog.holds", lambda *_: False)
    monkeypatch.setattr("engine.catalog.Catalog.sequence", property(lambda _: next(sequences)))
    with pytest.raises(CollectionBusy, match="try again"):
        hybrid.search("chat", FIRST)


def test_a_catalog_older_than_its_indexes_is_damage(hybrid):
    with closing(sqlite3.connect(hybrid.path / "g1" / "catalog.sqlite")) as connection, connection:
        connection.execute("UPDATE changes SET sequence = 0")
    with pytest.raises(CollectionDamaged, match=r"not of one time.*--rebuild"):
        hybrid.search("chat", FIRST)
    assert hybrid.verify()["state"] == "damaged"


def test_a_rebuild_that_ends_while_a_search_begins_is_followed(hybrid, monkeypatch):
    rebuilt = []

    def rebuild_once():
        if not rebuilt:
            rebuilt.append(True)
            Collection.rebuild(hybrid.path, first_stage="bm25", settings=Settings(precision="fp32"))
            raise CollectionDamaged("the bm25 index is gone")

    meanwhile(monkeypatch, engine.search, "plan", rebuild_once)
    assert hybrid.search("chat", FIRST).first_stage == "bm25"


def test_documents_are_those_of_the_generation_that_took_the_place_of_ours(hybrid):
    with Collection.open(hybrid.path) as reader:
        assert len(reader.keys()) == len(CATS)
        Collection.rebuild(hybrid.path, settings=Settings(precision="fp32"))
        hybrid.delete(["chat0"])
        assert reader.keys() == [cat.key for cat in CATS[1:]]
        assert reader.document("chat0") is None


def test_verify_of_an_index_that_moves_on_is_no_damage(hybrid, monkeypatch):
    def add_one():
        with Collection.open(hybrid.path, shelf=hybrid.shelf) as other:
            other.add([Document("autre", "Un chat de plus.")])
        hybrid._reader.bm25.refresh()

    meanwhile(monkeypatch, BM25Index, "verify", add_one)
    with pytest.raises(CollectionBusy):
        hybrid.verify()


def test_info_passes_over_a_file_that_is_taken_away(hybrid, monkeypatch):
    found = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, glob: [*found(self, glob), self / "bm25" / "gone"])
    assert hybrid.info()["bytes"]["bm25"] > 0


def test_an_index_that_lags_is_told_of(hybrid, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("engine.writer.bring_up_dense", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            hybrid.add([Document("girafe", "La girafe court.")])
    result = hybrid.search("girafe", FIRST)
    assert any("lags behind" in notice for notice in result.notices)
    assert hybrid.info()["pending"] == {"dense": 1}
    assert hybrid.search("girafe", SearchOptions(first_stage="bm25", rerank=False)).notices == ()
    hybrid.add([])
    assert hybrid.search("girafe", FIRST).notices == ()


def test_an_empty_dense_collection_finds_nothing(tmp_path, tiny):
    with Collection.create(tmp_path / "dense", first_stage="dense", encoder=str(tiny.encoder)) as collection:
        assert collection.search("chat", FIRST).hits == ()


def test_what_is_removed_is_not_found_though_the_encoder_is_gone(hybrid, monkeypatch):
    def gone(*_, **__):
        raise ModelNotFound("gone")

    with monkeypatch.context() as patch:
        patch.setattr("engine.models.shelf.Shelf.encoder", gone)
        assert hybrid.delete(["chat0"]) == 1
    assert "chat0" not in [hit.key for hit in hybrid.search("chat numéro 0", FIRST).hits]


def test_a_moment_that_an_interrupt_left_open_is_let_go(hybrid):
    hybrid._reader.catalog._all("BEGIN")
    hybrid.add([Document("girafe", "La girafe court.")])
    assert "girafe" in [hit.key for hit in hybrid.search("girafe", FIRST).hits]


def test_a_reader_that_may_not_write_there_sees_what_the_owner_writes(hybrid, monkeypatch):
    """As in another user's folder: SQLite opens the catalog only when told that nobody writes to it."""
    checked = Catalog._checked

    def as_another_user(path, mode):
        if mode == "ro":
            raise StorageError("unable to open database file", where=path)
        return checked(path, mode)

    hybrid.add([Document("un", "Le chat dort.")])
    monkeypatch.setattr(Catalog, "_checked", as_another_user)
    with Collection.open(hybrid.path, settings=hybrid.shelf.settings) as reader:
        assert "un" in {hit.key for hit in reader.search("chat", FIRST).hits}
        hybrid.add([Document("deux", "Un autre chat dort.")])
        assert {"un", "deux"} <= {hit.key for hit in reader.search("chat", FIRST).hits}
        assert reader.verify()["state"] == "sound"

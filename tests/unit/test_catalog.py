"""The catalog: sequences, visibility, and what it says of files that are not one."""

import sqlite3

import pytest

from engine.catalog import FORMAT, Catalog
from engine.catalog_change import Placed
from engine.errors import CollectionDamaged, CollectionOutdated, StorageError
from engine.records import Document


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog.create(tmp_path, {"splitter": "none"})
    yield catalog
    catalog.close()


def put(catalog, *documents, source=None):
    with catalog.change() as change:
        return change.add([(one, b"x" * 16, [Placed((0, len(one.text)), None, None)]) for one in documents], source)


def drop(catalog, key):
    with catalog.change() as change:
        return change.remove(catalog.entries([key])[key].id)


def test_each_transaction_raises_the_sequence_by_one(catalog):
    put(catalog, Document("a", "un"))
    put(catalog, Document("b", "deux"), Document("c", "trois"))
    assert catalog.sequence == 2


def test_a_transaction_that_changes_nothing_has_no_sequence(catalog):
    with catalog.change():
        pass
    assert catalog.sequence == 0


def test_a_transaction_that_fails_leaves_nothing(catalog):
    with pytest.raises(RuntimeError), catalog.change() as change:
        change.add([(Document("a", "un"), b"x" * 16, [Placed((0, 2), None, None)])], None)
        raise RuntimeError
    assert (catalog.keys(), catalog.sequence) == ([], 0)


def test_a_passage_is_visible_from_its_addition_to_its_removal(catalog):
    (first,) = put(catalog, Document("a", "un"))
    (second,) = put(catalog, Document("b", "deux"))
    drop(catalog, "a")
    assert [catalog.visible(sequence).tolist() for sequence in range(4)] == [[], [first], [first, second], [second]]


def test_passage_ids_are_never_reused(catalog):
    (first,) = put(catalog, Document("a", "un"))
    drop(catalog, "a")
    catalog.purge(catalog.sequence)
    assert put(catalog, Document("a", "un")) > [first]


def test_purging_keeps_what_an_older_reader_still_sees(catalog):
    put(catalog, Document("a", "un"))
    drop(catalog, "a")
    catalog.purge(1)
    assert catalog.visible(1).size == 1


def test_the_catalog_is_in_step_once_purged_to_its_last_sequence(catalog):
    put(catalog, Document("a", "un"))
    before = catalog.in_step
    catalog.purge(catalog.sequence)
    assert (before, catalog.in_step) == (False, True)


def test_a_document_of_one_passage_is_stored_once_and_read_back_whole(catalog):
    document = Document("a", "Un texte.", "Titre", {"année": 1789, "mots": ["x", "y"]}, (0,), has_lines=True)
    put(catalog, document)
    assert catalog.document("a") == document


def test_a_split_document_is_read_back_whole(catalog):
    document = Document("a", "Un. Deux.")
    with catalog.change() as change:
        change.add([(document, b"x" * 16, [Placed((0, 3), None, 1), Placed((4, 9), None, 1)])], None)
    assert catalog.document("a") == document
    assert [passage.text for passage in catalog.passages([1, 2]).values()] == ["Un.", "Deux."]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"genre": "roman"}, ["a", "b"]),
        ({"genre": "roman", "lu": "true"}, ["a"]),
        ({"année": "1862"}, ["b"]),
        ({"mots": "y"}, ["a"]),
        ({"absent": "x"}, []),
        ({"genre": "' OR 1=1 --"}, []),
    ],
)
def test_metadata_filters_compare_as_text_and_look_into_lists(catalog, where, expected):
    put(catalog, Document("a", "un", metadata={"genre": "roman", "lu": True, "mots": ["x", "y"]}))
    put(catalog, Document("b", "deux", metadata={"genre": "roman", "année": 1862}))
    put(catalog, Document("c", "trois"))
    found = catalog.passages(catalog.select(None, where, catalog.sequence)).values()
    assert [passage.key for passage in found] == expected


def test_two_sources_of_one_name_get_names_of_their_own(catalog):
    first = catalog.source("docs", "/un/docs", whole=False)
    second = catalog.source("docs", "/deux/docs", whole=False)
    assert (first[1], second[1], catalog.source("docs", "/un/docs", whole=False)) == ("docs", "docs-2", first)


def test_a_file_that_is_no_database_is_called_damaged(tmp_path):
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(CollectionDamaged, match=r"catalog\.sqlite"):
        Catalog.open(tmp_path)


def test_a_foreign_database_is_not_taken_for_a_catalog(tmp_path):
    path = tmp_path / "catalog.sqlite"
    sqlite3.connect(path).executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);").connection.close()
    with pytest.raises(CollectionDamaged, match="not a catalog"):
        Catalog.open(tmp_path)


def test_a_newer_format_is_refused(catalog, tmp_path):
    catalog.close()
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(CollectionOutdated, match="newer fouille"):
        Catalog.open(tmp_path)


def test_a_missing_catalog_is_called_damaged(tmp_path):
    with pytest.raises(CollectionDamaged, match="missing"):
        Catalog.open(tmp_path)


def test_a_full_disk_is_a_storage_error_and_changes_nothing(catalog):
    put(catalog, Document("a", "un"))
    pages = catalog._connection.execute("PRAGMA page_count").fetchone()[0]
    catalog._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full"):
        put(catalog, Document("b", "x" * 1_000_000))
    assert (catalog.keys(), catalog.sequence) == (["a"], 1)

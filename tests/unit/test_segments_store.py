"""SegmentStore: what is stored comes back, commits publish, merges and deletions keep the rest as it was."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionDamaged, CollectionOutdated
from engine.records import Ragged
from indexes.manifest import MANIFEST, read_manifest
from indexes.segment import merged_arrays
from indexes.segments import SegmentStore

VECTORS = {"dtype": "float16", "width": 4}
TOKENS = {"dtype": "uint16", "width": None}


def array(*ids: int) -> np.ndarray:
    return np.array(ids, np.int64)


def vectors_of(ids: np.ndarray) -> np.ndarray:
    return (ids[:, None] + np.arange(4) / 4).astype(np.float16)


def tokens_of(ids: np.ndarray) -> Ragged:
    rows = [np.full(identity % 5, identity, np.uint16) for identity in ids.tolist()]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(np.concatenate([*rows, np.empty(0, np.uint16)]), offsets)


def filled(folder: Path, *batches: np.ndarray) -> SegmentStore:
    store = SegmentStore.create(folder, kind=VECTORS)
    for batch in batches:
        store.append(batch, vectors_of(batch))
    store.commit(1)
    return store


def test_rows_come_back_in_the_order_asked(tmp_path: Path) -> None:
    store = filled(tmp_path, array(5, 1, 3), array(2))
    rows, found = store.rows(array(3, 2, 9, 5))
    assert found.tolist() == [True, True, False, True]
    assert np.array_equal(rows[found], vectors_of(array(3, 2, 5)))
    assert not rows[2].any()


def test_ragged_rows_come_back_in_the_order_asked(tmp_path: Path) -> None:
    store = SegmentStore.create(tmp_path, kind=TOKENS)
    for batch in (array(7, 3, 5), array(12, 9)):
        store.append(batch, tokens_of(batch))
    store.commit(1)
    rows, found = store.ragged(array(9, 5, 100, 3, 12))
    assert found.tolist() == [True, True, False, True, True]
    assert [rows.values[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)] == [
        [9] * 4,
        [],
        [],
        [3] * 3,
        [12] * 2,
    ]


def test_appended_rows_are_not_visible_before_the_commit(tmp_path: Path) -> None:
    store = filled(tmp_path, array(1))
    store.append(array(2), vectors_of(array(2)))
    assert store.ids().tolist() == [1]
    assert SegmentStore(tmp_path).ids().tolist() == [1]
    assert store.stored(array(1, 2, 3)).tolist() == [True, True, False]


def test_appended_rows_survive_the_writer_that_never_committed(tmp_path: Path) -> None:
    filled(tmp_path, array(1)).append(array(2), vectors_of(array(2)))
    successor = SegmentStore(tmp_path)
    assert successor.stored(array(2)).all()
    successor.commit(2)
    assert successor.ids().tolist() == [1, 2]


def test_a_reader_stays_at_its_commit_until_it_refreshes(tmp_path: Path) -> None:
    store = filled(tmp_path, array(1))
    reader = SegmentStore(tmp_path)
    store.append(array(2), vectors_of(array(2)))
    store.commit(2)
    assert (reader.applied, reader.ids().tolist()) == (1, [1])
    assert reader.refresh()
    assert (reader.applied, reader.ids().tolist()) == (2, [1, 2])
    assert not reader.refresh()


def test_deleted_rows_are_gone_after_the_commit_only(tmp_path: Path) -> None:
    store = filled(tmp_path, np.arange(10))
    assert store.delete(array(3, 99)) == 1
    assert store.ids().tolist() == list(range(10))
    assert not store.stored(array(3)).any()
    store.commit(2)
    assert store.ids().tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert not store.rows(array(3))[1].any()
    assert SegmentStore(tmp_path).count == 9


def test_a_pending_row_can_be_deleted(tmp_path: Path) -> None:
    store = filled(tmp_path, array(1))
    store.append(array(2, 3), vectors_of(array(2, 3)))
    store.delete(array(2))
    store.commit(2)
    assert store.ids().tolist() == [1, 3]


@pytest.mark.parametrize("kind", [VECTORS, TOKENS])
def test_merging_keeps_rows_and_leaves_one_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: dict) -> None:
    monkeypatch.setattr("indexes.segment._TIER_FANOUT", 3)
    make = vectors_of if kind is VECTORS else tokens_of
    store = SegmentStore.create(tmp_path, kind=kind)
    for number, batch in enumerate((array(4, 10, 7, 3), array(1, 12, 6, 5), array(8, 2))):
        store.append(batch, make(batch))
        store.delete(array(7, 1))
        store.commit(number + 1)
        assert len(store.segments) == (1, 2, 1)[number]
    assert store.segments[0].stored.rows == 8
    asked = array(8, 12, 2, 4, 10, 3, 6, 5)
    assert store.ids().tolist() == sorted(asked.tolist())
    if kind is VECTORS:
        assert np.array_equal(store.rows(asked)[0], vectors_of(asked))
    else:
        assert np.array_equal(store.ragged(asked)[0].values, tokens_of(asked).values)
        assert np.array_equal(store.ragged(asked)[0].offsets, tokens_of(asked).offsets)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.usefixtures("quick_disk")
def test_many_small_appends_leave_few_segments(tmp_path: Path) -> None:
    store = SegmentStore.create(tmp_path, kind=VECTORS)
    for identity in range(200):
        store.append(array(identity), vectors_of(array(identity)))
    assert len(list(tmp_path.glob("*.segment"))) <= 8
    store.commit(1)
    assert store.ids().tolist() == list(range(200))


@pytest.mark.usefixtures("quick_disk")
def test_rows_are_rewritten_at_most_once_for_each_tier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexes.segment._TIER_FLOOR", 8)
    written = []

    def counting(kind, segments):
        arrays = merged_arrays(kind, segments)
        written.append(arrays["ids"].shape[0])
        return arrays

    monkeypatch.setattr("indexes.segments.merged_arrays", counting)
    store = SegmentStore.create(tmp_path, kind=VECTORS)
    for number in range(256):
        batch = np.arange(number * 4, number * 4 + 4)
        store.append(batch, vectors_of(batch))
        store.commit(number + 1)
    assert sum(written) <= 4 * 1024


def test_a_mostly_deleted_segment_is_rewritten_without_its_deletions(tmp_path: Path) -> None:
    store = filled(tmp_path, np.arange(100))
    store.delete(np.arange(40))
    store.commit(2)
    assert [segment.stored.rows for segment in store.segments] == [60]


def test_a_store_whose_rows_are_all_deleted_is_empty(tmp_path: Path) -> None:
    store = filled(tmp_path, np.arange(5))
    store.delete(np.arange(5))
    store.commit(2)
    assert (store.count, store.ids().tolist(), list(tmp_path.glob("*.segment"))) == (0, [], [])


def test_merging_what_is_pending_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexes.segment._TIER_FANOUT", 3)
    store = filled(tmp_path, array(1), array(2))
    store.delete(array(1))
    for identity in (3, 4, 5):
        store.append(array(identity), vectors_of(array(identity)))
    assert len(read_manifest(tmp_path).pending) == 1
    assert SegmentStore(tmp_path).ids().tolist() == [1, 2]
    store.commit(2)
    assert store.ids().tolist() == [2, 3, 4, 5]


def test_a_reader_goes_on_after_a_merge_removed_its_files(tmp_path: Path) -> None:
    store = filled(tmp_path, np.arange(50), np.arange(50, 90))
    reader = SegmentStore(tmp_path)
    paths = [segment.file.path for segment in reader.segments]
    store.delete(np.concatenate([np.arange(20), np.arange(60, 80)]))
    store.commit(2)
    assert not any(path.exists() for path in paths)
    assert np.array_equal(reader.rows(np.arange(90))[0], vectors_of(np.arange(90)))


def test_a_reader_that_finds_a_listed_file_gone_reads_the_manifest_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, np.arange(5), np.arange(5, 9))
    stale = [store._manifest]
    store.delete(array(0, 1, 5, 6))
    store.commit(2)

    def read(folder):
        return stale.pop() if stale else read_manifest(folder)

    monkeypatch.setattr("indexes.segments.read_manifest", read)
    assert SegmentStore(tmp_path).ids().tolist() == [2, 3, 4, 7, 8]


def test_the_next_writer_removes_what_no_manifest_names(tmp_path: Path) -> None:
    filled(tmp_path, array(1))
    orphans = [tmp_path / name for name in ("00000099.segment", "manifest.json.tmp", "00000098.deletions")]
    for orphan in orphans:
        orphan.write_bytes(b"left by a writer that was killed")
    bystander = tmp_path / "notes.txt"
    bystander.write_text("mine")
    SegmentStore(tmp_path).refresh()
    assert all(orphan.exists() for orphan in orphans)
    SegmentStore(tmp_path).commit(1)
    assert not any(orphan.exists() for orphan in orphans)
    assert bystander.exists()


def test_a_writer_takes_up_what_another_committed_in_between(tmp_path: Path) -> None:
    first = filled(tmp_path, array(1))
    second = SegmentStore(tmp_path)
    second.append(array(2), vectors_of(array(2)))
    second.commit(2)
    first.append(array(3), vectors_of(array(3)))
    first.commit(3)
    assert SegmentStore(tmp_path).ids().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "rows"),
    [
        (array(1, 1), np.zeros((2, 4), np.float16)),
        (array(7), np.zeros((1, 4), np.float16)),
        (array(1), np.zeros((1, 3), np.float16)),
        (array(1), np.zeros((1, 4), np.float32)),
        (array(1, 2), np.zeros((1, 4), np.float16)),
    ],
    ids=["id twice", "id stored", "width", "dtype", "length"],
)
def test_rows_that_cannot_be_stored_are_refused(tmp_path: Path, ids: np.ndarray, rows: np.ndarray) -> None:
    store = filled(tmp_path, array(7))
    with pytest.raises(ValueError, match=r"."):
        store.append(ids, rows)
    assert store.stored(array(1, 7)).tolist() == [False, True]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 2, 3], [0, 3, 2], [0, 1, 2]])
def test_offsets_that_do_not_span_the_values_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    store = SegmentStore.create(tmp_path, kind=TOKENS)
    with pytest.raises(ValueError, match=r"ragged|offsets"):
        store.append(array(1, 2), Ragged(np.zeros(3, np.uint16), np.array(offsets, np.int64)))


def test_a_sequence_does_not_go_backwards(tmp_path: Path) -> None:
    store = filled(tmp_path, array(7))
    with pytest.raises(ValueError, match="behind"):
        store.commit(0)


def test_creating_where_segments_lie_without_a_manifest_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, array(7))
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(CollectionDamaged, match="manifest"):
        SegmentStore.create(tmp_path, kind=VECTORS)


def test_a_store_of_a_newer_format_is_named_as_such(tmp_path: Path) -> None:
    filled(tmp_path, array(7))
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(CollectionOutdated, match="newer"):
        SegmentStore(tmp_path)


def test_an_attachment_is_replaced_and_withdrawn(tmp_path: Path) -> None:
    store = filled(tmp_path, array(7))
    store.attach("graph", lambda path: path.write_bytes(b"one") and None, about={"n": 1})
    store.attach("graph", lambda path: path.write_bytes(b"two") and None, about={"n": 2})
    found = SegmentStore(tmp_path).attachment("graph", check=True)
    assert found is not None
    assert (found[0].read_bytes(), found[1].about["n"]) == (b"two", 2)
    assert len(list(tmp_path.glob("*.attachment"))) == 1
    store.detach("graph")
    assert store.attachment("graph", check=True) is None
    assert not list(tmp_path.glob("*.attachment"))


def test_ids_of_which_one_is_stored_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, array(7))
    with pytest.raises(ValueError, match="already stored"):
        store.append(array(7, 8), vectors_of(array(7, 8)))
    assert store.stored(array(7, 8)).tolist() == [True, False]


def test_an_attachment_that_is_replaced_has_another_name(tmp_path: Path) -> None:
    store = filled(tmp_path, array(7))
    names = []
    for content in (b"one", b"two", b"three"):
        store.attach("graph", lambda path, content=content: path.write_bytes(content) and None, about={})
        names.append(store.attachment_name("graph"))
    assert len(set(names)) == 3
    store.append(array(8), vectors_of(array(8)))
    store.commit(2)
    assert store.ids().tolist() == [7, 8]

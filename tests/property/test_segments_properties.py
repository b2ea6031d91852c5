"""Any sequence of appends, deletions, commits and crashes, merges included, leaves what a dictionary would hold."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.records import Ragged
from indexes.segments import SegmentStore

APPEND = st.tuples(st.just("append"), st.integers(1, 12))
DELETE = st.tuples(st.just("delete"), st.lists(st.integers(1, 60), max_size=8))
PLAIN = st.tuples(st.sampled_from(["commit", "crash"]), st.none())
ACTIONS = st.lists(st.one_of(APPEND, DELETE, PLAIN), max_size=25)


def tokens_of(ids: list[int]) -> Ragged:
    rows = [np.arange(identity % 7, dtype=np.uint32) + identity for identity in ids]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(np.concatenate([*rows, np.empty(0, np.uint32)]), offsets)


def vectors_of(ids: list[int]) -> np.ndarray:
    return (np.array(ids)[:, None] + np.zeros(3)).astype(np.float16)


def contents(store: SegmentStore) -> dict[int, list[float]]:
    ids = store.ids()
    if store.kind["width"] is not None:
        return dict(zip(ids.tolist(), store.rows(ids)[0].tolist(), strict=True))
    rows, _ = store.ragged(ids)
    return {i: rows.values[a:b].tolist() for i, a, b in zip(ids.tolist(), rows.offsets, rows.offsets[1:], strict=False)}


def rows_of(stored: Ragged | np.ndarray) -> list[float]:
    return stored.values.tolist() if isinstance(stored, Ragged) else stored[0].tolist()


@pytest.mark.parametrize("ragged", [False, True])
@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS)
def test_the_store_holds_what_a_dictionary_would(ragged: bool, actions: list) -> None:
    make = tokens_of if ragged else vectors_of
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr("indexes.segment._TIER_FANOUT", 3)
        folder = Path(name) / "store"
        store = SegmentStore.create(
            folder, kind={"dtype": "uint32" if ragged else "float16", "width": None if ragged else 3}
        )
        visible: set[int] = set()
        pending: set[int] = set()
        doomed: set[int] = set()
        following, applied = 1, 0
        for action, argument in actions:
            match action:
                case "append":
                    ids = list(range(following, following + argument))
                    store.append(np.array(ids[::-1]), make(ids[::-1]))
                    pending |= set(ids)
                    following += argument
                case "delete":
                    store.delete(np.array(argument, np.int64))
                    doomed |= set(argument) & (visible | pending)
                case "commit":
                    applied += 1
                    store.commit(applied)
                    visible, pending, doomed = (visible | pending) - doomed, set(), set()
                case "crash":
                    (folder / "00009999.segment.tmp").write_bytes(b"half")
                    store, doomed = SegmentStore(folder), set()
            assert store.ids().tolist() == sorted(visible)
            assert set(store.pending_ids().tolist()) == pending - doomed
        reader = SegmentStore(folder)
        reader.verify()
        assert reader.applied == applied
        assert contents(reader) == {identity: rows_of(make([identity])) for identity in visible}

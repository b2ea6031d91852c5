"""A segment store under full disks, killed writers and damaged files: an old or a new state, never another."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionDamaged, FouilleError, StorageError
from indexes.manifest import MANIFEST, read_manifest, write_manifest
from indexes.segments import SegmentStore

KIND = {"dtype": "float16", "width": 4}
ROOT = Path(__file__).parents[2]


def vectors_of(ids: np.ndarray) -> np.ndarray:
    return (ids[:, None] % 512 + np.arange(4) / 4).astype(np.float16)


def check(folder: Path) -> SegmentStore:
    store = SegmentStore(folder)
    store.verify()
    ids = store.ids()
    assert np.array_equal(store.rows(ids)[0], vectors_of(ids))
    return store


def small_store(folder: Path) -> SegmentStore:
    store = SegmentStore.create(folder, kind=KIND)
    for at in (0, 10, 20):
        store.append(np.arange(at, at + 10), vectors_of(np.arange(at, at + 10)))
    store.commit(1)
    store.delete(np.array([3]))
    store.commit(2)
    return store


class FailingCalls:
    """Lets a number of writing system calls through, then fails every one, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.left, self.code, self.failed = -1, code, False
        for name in ("write", "replace"):
            monkeypatch.setattr(os, name, self.guard(getattr(os, name)))
        # Whether the disk spins changes nothing here but the time that the test takes.
        monkeypatch.setattr(os, "fsync", self.guard(lambda _: None))
        monkeypatch.setattr(os, "open", self.guard(os.open, only=os.O_WRONLY))

    def guard(self, call, only: int = 0):
        def guarded(*args, **kwargs):
            if self.left >= 0 and (not only or args[1] & only):
                if self.left == 0:
                    self.failed = True
                    raise OSError(self.code, os.strerror(self.code))
                self.left -= 1
            return call(*args, **kwargs)

        return guarded


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("append", errno.ENOSPC),
        ("append", errno.EROFS),
        ("append", errno.EACCES),
        ("append", errno.EIO),
        ("commit", errno.ENOSPC),
        ("attach", errno.ENOSPC),
    ],
)
def test_a_refused_write_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, operation: str
) -> None:
    calls = FailingCalls(monkeypatch, code)
    more = np.arange(40, 45)
    for allowed in range(60):
        calls.left, calls.failed = -1, False
        folder = tmp_path / str(allowed)
        store = small_store(folder)
        if operation != "append":
            store.append(more, vectors_of(more))
            store.delete(np.arange(12, 28))
        before = set(store.ids().tolist())
        calls.left = allowed
        try:
            match operation:
                case "append":
                    store.append(more, vectors_of(more))
                case "commit":
                    store.commit(3)
                case "attach":
                    store.attach("index", lambda path: path.write_bytes(b"x" * 100) and None, about={})
        except StorageError:
            assert calls.failed
        calls.left = -1
        survivor = check(folder)
        after = (before | set(more.tolist())) - set(range(12, 28))
        assert set(survivor.ids().tolist()) in ((before, after) if operation == "commit" else (before,))
        survivor.append(more[~survivor.stored(more)], vectors_of(more[~survivor.stored(more)]))
        survivor.delete(np.arange(12, 28))
        survivor.commit(4)
        assert set(check(folder).ids().tolist()) == after
        assert not list(folder.glob("*.tmp"))
        if not calls.failed:
            assert allowed >= 6
            return
    pytest.fail("never succeeded")


WRITER = """
import os
import sys
from pathlib import Path
import numpy as np
import indexes.segment
os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote; only a power cut would
from indexes.segments import SegmentStore
indexes.segment._TIER_FLOOR = 16
folder = Path(sys.argv[1])
store = SegmentStore(folder)
print("ready", flush=True)
while True:
    n = store.applied + 1
    for part in (np.arange(n * 10, n * 10 + 4), np.arange(n * 10 + 4, n * 10 + 10)):
        part = part[~store.stored(part)]
        store.append(part, (part[:, None] % 512 + np.arange(4) / 4).astype(np.float16))
    store.delete(np.arange((n - 20) * 10, (n - 20) * 10 + 10))
    store.commit(n)
"""


def test_a_writer_killed_at_any_moment_leaves_a_committed_state(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    SegmentStore.create(folder, kind=KIND)
    dice = random.Random(7)
    reached = 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        reader = SegmentStore(folder)
        wanted = reached + dice.randrange(6)
        while reader.applied < wanted:
            reader.refresh()
            assert np.array_equal(reader.ids(), expected(reader.applied))
        time.sleep(dice.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        survivor = check(folder)
        assert np.array_equal(survivor.ids(), expected(survivor.applied))
        assert survivor.applied >= reached
        reached = survivor.applied
    assert reached > 20


def expected(applied: int) -> np.ndarray:
    return np.arange(max(1, applied - 19) * 10, applied * 10 + 10) if applied else np.empty(0, np.int64)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("suffix", [".segment", ".deletions", ".json"])
def test_a_flipped_bit_is_named_or_harmless(tmp_path: Path, suffix: str) -> None:
    store = small_store(tmp_path)
    truth, truth_rows = store.ids(), store.rows(store.ids())[0]
    path = next(file for file in files_of(tmp_path) if file.suffix == suffix)
    sound = path.read_bytes()
    places = range(0, len(sound), 7)
    found = 0
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ (1 << place % 8)]) + sound[place + 1 :])
        try:
            reader = SegmentStore(tmp_path)
            ids = reader.ids()
            rows, _ = reader.rows(ids)
            assert np.array_equal(ids, truth)
            assert np.array_equal(rows, truth_rows)
            if suffix != ".json":
                reader.verify()
        except FouilleError as error:
            found += path.name in str(error)
    assert found > 0.9 * len(places)


@pytest.mark.parametrize("suffix", [".segment", ".deletions", ".json"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "longer", "foreign", "missing"])
def test_a_damaged_file_is_named_when_the_store_is_opened(tmp_path: Path, suffix: str, damage: str) -> None:
    small_store(tmp_path)
    path = next(file for file in files_of(tmp_path) if file.suffix == suffix)
    sound = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(sound[:-5])
        case "longer":
            path.write_bytes(sound + b"\0" * 5 + b"x")
        case "foreign":
            path.write_bytes(os.urandom(len(sound)))
        case "missing":
            path.unlink()
    with pytest.raises(CollectionDamaged, match=r"fouille index SOURCE\.\.\. --rebuild") as caught:
        SegmentStore(tmp_path)
    assert path.name in str(caught.value)


def test_a_segment_of_another_store_is_refused(tmp_path: Path) -> None:
    small_store(tmp_path / "a")
    other = SegmentStore.create(tmp_path / "b", kind=KIND)
    other.append(np.arange(100, 110), vectors_of(np.arange(100, 110)))
    (tmp_path / "a" / "00000001.segment").write_bytes((tmp_path / "b" / "00000001.segment").read_bytes())
    with pytest.raises(CollectionDamaged, match="checksum"):
        SegmentStore(tmp_path / "a")


def test_a_merge_does_not_seal_damage_anew(tmp_path: Path) -> None:
    ids = np.arange(2000)
    store = SegmentStore.create(tmp_path, kind=KIND)
    store.append(ids, vectors_of(ids))
    store.commit(1)
    path = store.segments[0].file.path
    content = bytearray(path.read_bytes())
    # On a page that holds no id, which alone the deletion reads.
    place = content.rindex(vectors_of(ids[-10:]).tobytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    writer = SegmentStore(tmp_path)
    writer.delete(ids[:1000])
    with pytest.raises(CollectionDamaged, match=path.name):
        writer.commit(2)


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    small_store(tmp_path)
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, replace(manifest, segments=(replace(manifest.segments[0], name="../escape.segment"),)))
    with pytest.raises(CollectionDamaged, match=MANIFEST):
        SegmentStore(tmp_path)

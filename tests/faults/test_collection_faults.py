"""What a collection survives: kill -9, a full disk, a read-only folder, a second writer, Ctrl-C, damaged files."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from engine import Collection, Document, SearchOptions
from engine.errors import CollectionBusy, CollectionDamaged, FouilleError, StorageError
from engine.models.shelf import Shelf
from engine.settings import Settings

ROOT = Path(__file__).parents[2]
FIRST = SearchOptions(k=200, rerank=False)
SIZE = 60

WRITER = """
import sys, zlib
import numpy as np
from engine import Collection, Document
from engine.models.shelf import Shelf
from engine.settings import Settings

class Encoder:
    '''Vectors from a checksum: a stand-in that costs nothing to start.'''
    hash, name, dimension, device, window = "h" * 32, "stand-in", 8, "cpu", 512
    def _encode(self, texts):
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=8) for text in texts]
        vectors = np.asarray(rows, np.float32).reshape(len(texts), 8)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    encode_queries = _encode
    def encode_windows(self, windows, progress=None):
        for label, texts in windows:
            yield label, self._encode(texts)

def shelf():
    shelf = Shelf(Settings(reranker="nobody/nothing"))
    shelf._encoders["stand-in"] = Encoder()
    return shelf

def corpus(version, size):
    for number in range(size):
        if (number + version) % 5:
            yield Document(f"d{number}", f"Le document numéro {number} en version v{version if number % 2 else 0}.")
"""
STAND_IN: dict = {}
exec(WRITER, STAND_IN)  # noqa: S102 - the writer's own code, so that parent and child agree


def made(path):
    """A hybrid collection whose encoder is the stand-in."""
    shelf = STAND_IN["shelf"]()
    with Collection.create(path, first_stage="bm25", shelf=shelf) as collection, collection._catalog() as catalog:
        catalog.remember({"first_stage": "hybrid", "encoder": "stand-in", "encoder_hash": "h" * 32})
    return shelf


def texts(version):
    return {document.key: document.text for document in STAND_IN["corpus"](version, SIZE)}


def state(path, shelf):
    """Every document by key, as a search finds it: proof that none is there twice."""
    with Collection.open(path, shelf=shelf) as collection:
        hits = collection.search("document", SearchOptions(k=500, rerank=False, first_stage="bm25")).hits
        keys = [hit.key for hit in hits]
        assert len(keys) == len(set(keys))
        report = collection.verify()
        assert report["state"] in {"sound", "pending"}, report
        return {hit.key: hit.text for hit in hits}, report["state"]


@pytest.mark.timeout(400)
def test_kill_minus_nine_at_fifty_random_moments_leaves_a_committed_state(tmp_path):
    path = tmp_path / "collection"
    shelf = made(path)
    script = WRITER + textwrap.dedent(f"""
        with Collection.open({str(path)!r}, shelf=shelf()) as collection:
            print("ready", flush=True)
            version = int(sys.argv[1])
            while True:
                documents = list(corpus(version, {SIZE}))
                gone = set(collection.keys()) - {{document.key for document in documents}}
                collection.delete(gone)
                collection.add(documents)
                version = 1 - version
    """)
    chance = random.Random(20261121)
    for moment in range(50):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(moment % 2)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.6))
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found, _ = state(path, shelf)
        possible = [texts(0), texts(1)]
        assert all(found[key] in {version.get(key) for version in possible} for key in found)
    with Collection.open(path, shelf=shelf) as collection:
        collection.delete(set(collection.keys()) - set(texts(0)))
        collection.add(STAND_IN["corpus"](0, SIZE))
    assert state(path, shelf) == (texts(0), "sound")


@pytest.mark.parametrize("part", ["catalog", "bm25", "dense"])
def test_a_full_disk_keeps_what_was_there_searchable(tmp_path, monkeypatch, part):
    shelf = made(tmp_path / "c")
    with Collection.open(tmp_path / "c", shelf=shelf) as collection:
        collection.add([Document("a", "Le chat dort.")])

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        def refused(*_):
            raise StorageError("no space left on device")

        if part == "catalog":
            monkeypatch.setattr("engine.catalog.Change.add", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        elif part == "bm25":
            monkeypatch.setattr(
                "indexes.bm25.BM25Writer.commit", lambda *_: (_ for _ in ()).throw(StorageError("full"))
            )
        else:
            monkeypatch.setattr("os.fsync", full)
        with pytest.raises(StorageError):
            collection.add([Document("b", "Le chien dort.")])
        monkeypatch.undo()
        assert "a" in [hit.key for hit in collection.search("chat", FIRST).hits]
        collection.add([Document("b", "Le chien dort.")])
        assert sorted(hit.key for hit in collection.search("dort", FIRST).hits) == ["a", "b"]
        assert collection.verify()["state"] == "sound"


def test_a_real_full_disk_is_a_storage_error(tmp_path):
    """A size limit on the process's files stands in for the disk."""
    path = tmp_path / "c"
    made(path)
    script = WRITER + textwrap.dedent(f"""
        import resource, signal
        from engine.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Collection.open({str(path)!r}, shelf=shelf()) as collection:
            collection.add([Document("a", "Le chat dort.")])
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            try:
                collection.add(Document(f"d{{n}}", "mot " * 20_000) for n in range(40))
            except StorageError as error:
                print("refused", flush=True)
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
    with Collection.open(path, shelf=STAND_IN["shelf"]()) as collection:
        assert [hit.key for hit in collection.search("chat", FIRST).hits] == ["a"]


def test_a_read_only_collection_is_searched_and_not_written(tmp_path):
    """In a mount namespace of its own, where the folder is read-only even for root."""
    path = tmp_path / "c"
    with Collection.create(path, first_stage="bm25") as collection:
        collection.add([Document("a", "Le chat dort.")])
    script = textwrap.dedent(f"""
        from engine import Collection, Document, SearchOptions
        from engine.errors import StorageError
        with Collection.open({str(path)!r}) as collection:
            print([hit.key for hit in collection.search("chats", SearchOptions(rerank=False)).hits])
            try:
                collection.add([Document("b", "x")])
            except StorageError:
                print("refused")
    """)
    sealed = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", sealed, "sh", str(path), sys.executable, script]
    if subprocess.run([*command[:8], sys.executable, "pass"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no mount namespace be made")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "['a']\nrefused\n", done.stderr


def test_the_lock_is_free_once_its_holder_is_killed(tmp_path):
    path = tmp_path / "c"
    Collection.create(path, first_stage="bm25").close()
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from engine.locking import locked
        with locked(Path({str(path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """)
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with Collection.open(path) as collection:
        with pytest.raises(CollectionBusy):
            collection.add([])
        holder.kill()
        holder.wait()
        holder.stdout.close()
        collection.add([Document("a", "Le chat dort.")])
        assert collection.keys() == ["a"]


def test_an_interruption_while_reading_keeps_what_was_committed_and_frees_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.indexing.TRANSACTION_DOCUMENTS", 2)

    def interrupted():
        yield from (Document(f"d{number}", "Le chat dort.") for number in range(5))
        raise KeyboardInterrupt

    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        with pytest.raises(KeyboardInterrupt):
            collection.add(interrupted())
        assert len(collection.keys()) == 4
        collection.add([])
        assert len(collection.search("chat", FIRST).hits) == 4


def inflict(damage, file, content, chance):
    if damage == "remove":
        file.unlink()
        return
    altered = bytearray(content)
    if damage == "flip":
        for _ in range(8):
            altered[chance.randrange(len(altered))] ^= 0xFF
    file.write_bytes(altered[: {"truncate": len(content) // 2, "empty": 0}.get(damage)])


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_any_damaged_file_is_an_error_of_ours_or_harms_nothing(tmp_path, damage):
    """Each file in turn; a fresh process each time would be slow, and the readers keep nothing between collections."""
    shelf = made(tmp_path / "c")
    with Collection.open(tmp_path / "c", shelf=shelf) as collection:
        collection.add(STAND_IN["corpus"](0, SIZE))
        expected = [hit.key for hit in collection.search("document numéro 7", FIRST).hits]
    chance = random.Random(3)
    named = 0
    for file in sorted(path for path in (tmp_path / "c").rglob("*") if path.is_file()):
        if not (content := file.read_bytes()):
            continue
        inflict(damage, file, content, chance)
        try:
            with Collection.open(tmp_path / "c", shelf=Shelf(Settings(), dict(shelf._encoders))) as collection:
                found = [hit.key for hit in collection.search("document numéro 7", FIRST).hits]
                assert found == expected or collection.verify()["state"] == "damaged", file
        except FouilleError as error:
            named += isinstance(error, CollectionDamaged)
        file.write_bytes(content)
    assert named

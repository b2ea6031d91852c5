"""BM25 under damage, kills, full disks: never a crash, never a wrong answer, never a lost commit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import CollectionDamaged, FouilleError
from indexes.analysis import DEFAULT_ANALYSIS
from indexes.bm25 import BM25Index, BM25Writer

ROOT = Path(__file__).parents[2]
COUNT = 300

WRITER = """
import sys
from pathlib import Path
from indexes.analysis import DEFAULT_ANALYSIS
from indexes.bm25 import BM25Writer
with BM25Writer(Path(sys.argv[1]), DEFAULT_ANALYSIS) as writer:
    sequence = writer.applied
    print("ready", flush=True)
    while True:
        first = sequence * 100 + 1
        writer.add(range(first, first + 100), [f"loup numéro {n}" for n in range(first, first + 100)])
        sequence += 1
        writer.commit(sequence)
        print(sequence, flush=True)
"""


def write(folder: Path) -> None:
    with BM25Writer(folder, DEFAULT_ANALYSIS) as writer:
        writer.add(range(1, COUNT + 1), [f"loup numéro {number}" for number in range(1, COUNT + 1)])
        writer.commit(1)
        writer.delete([7])
        writer.commit(2)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "write.lock")


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("names")
    write(folder)
    return [path.name for path in files(folder)]


def damage_is_noticed(folder: Path) -> None:
    with pytest.raises(CollectionDamaged) as raised, BM25Index.open(folder, DEFAULT_ANALYSIS) as index:
        index.search("loup", 10)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_every_flipped_byte_sampled_in_every_file_is_noticed(tmp_path):
    write(tmp_path)
    source = random.Random(3)
    for path in files(tmp_path):
        sound = path.read_bytes()
        for place in {0, len(sound) - 1, *(source.randrange(len(sound)) for _ in range(3))}:
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 0x41]) + sound[place + 1 :])
            damage_is_noticed(tmp_path)
        path.write_bytes(sound)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        index.verify()


@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_every_file_cut_short_is_noticed(tmp_path, left):
    write(tmp_path)
    for path in files(tmp_path):
        sound = path.read_bytes()
        path.write_bytes(sound[: int(len(sound) * left)])
        damage_is_noticed(tmp_path)
        path.write_bytes(sound)


def test_every_missing_file_is_noticed(tmp_path):
    write(tmp_path)
    for path in files(tmp_path):
        sound = path.read_bytes()
        path.unlink()
        damage_is_noticed(tmp_path)
        path.write_bytes(sound)


def test_verify_notices_damage_that_came_after_opening(tmp_path):
    write(tmp_path)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        index.verify()
        largest = max(files(tmp_path), key=lambda path: path.stat().st_size)
        sound = largest.read_bytes()
        largest.write_bytes(sound[:500] + bytes([sound[500] ^ 1]) + sound[501:])
        with pytest.raises(CollectionDamaged, match=largest.name):
            index.verify()


def test_a_writer_on_a_damaged_index_says_so(tmp_path):
    write(tmp_path)
    newest = max(tmp_path.glob("segments_*"))
    newest.write_bytes(newest.read_bytes()[:40])
    with pytest.raises(CollectionDamaged):
        BM25Writer(tmp_path, DEFAULT_ANALYSIS)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_writer_leaves_its_last_commit_and_a_free_lock(tmp_path):
    source = random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        acknowledged = int(process.stdout.readline())
        time.sleep(source.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        acknowledged = max([acknowledged, *(int(line) for line in rest.split("\n")[:-1] if line.isdigit())])
        with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
            assert index.applied >= acknowledged
            assert index.ids().tolist() == list(range(1, index.applied * 100 + 1))
            index.verify()
        with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
            assert writer.applied >= acknowledged


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file by setrlimit")
def test_a_disk_that_fills_is_one_clear_error_and_leaves_the_last_commit(tmp_path):
    write(tmp_path)
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from indexes import jvm\nfrom indexes.analysis import DEFAULT_ANALYSIS\nfrom indexes.bm25 import BM25Writer\n"
        "from engine.errors import StorageError\njvm.start()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "try:\n    with BM25Writer(Path(sys.argv[1]), DEFAULT_ANALYSIS) as writer:\n"
        "        texts = [' '.join(f'mot{n}x{m}' for m in range(100)) for n in range(1000)]\n"
        "        writer.add(range(1000, 2000), texts)\n        writer.commit(3)\n"
        "except StorageError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "the disk is full" in done.stdout, done.stderr
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert (index.applied, index.count) == (2, COUNT - 1)
        index.verify()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_searched_but_not_written(tmp_path):
    write(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
            assert len(index.search("loup", 10).ids) == 10
        with pytest.raises(FouilleError):
            BM25Writer(tmp_path, DEFAULT_ANALYSIS)
    finally:
        tmp_path.chmod(0o700)


def test_a_reader_may_open_while_a_writer_commits(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "1\n"]
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
                index.search("loup", 10)
                index.refresh()
                assert index.ids().tolist() == list(range(1, index.applied * 100 + 1))
                index.verify()
    finally:
        process.kill()
        process.communicate()

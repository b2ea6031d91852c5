"""A run that is interrupted at any point goes on where it stopped, and only with the same options."""

import gzip
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import EvaluationError, StorageError
from engine.evaluation import read_run
from engine.evaluation.provenance import (
    Provenance,
    differences,
    file_fingerprint,
    read_provenance,
    write_provenance,
)
from engine.evaluation.resumable import ResumableRun

MADE = Provenance("run", {"name": "c"}, {"m": "abc"}, {"k": 10}, {"questions": "def"}, 1.5)
OPTIONS = {"k": 10, "measures": ("a", "b")}


def interrupted(output: Path, questions: list[str]) -> None:
    with suppress(KeyboardInterrupt), ResumableRun(output, OPTIONS) as run:
        for question in questions:
            run.add(question, ["d1", "d2"], [2.0, 1.0])
        raise KeyboardInterrupt


def finished(output: Path, questions: list[str]) -> int:
    with ResumableRun(output, OPTIONS) as run:
        for question in questions:
            if question not in run.done:
                run.add(question, ["d1", "d2"], [2.0, 1.0])
        run.finish(MADE)
    return run.resumed


def test_finished_run_stands_with_its_provenance_and_nothing_else(tmp_path: Path) -> None:
    assert finished(tmp_path / "r.trec", ["q1", "q2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.trec", "r.trec.json"]
    assert list(read_run(tmp_path / "r.trec")) == ["q1", "q2"]
    assert (read_provenance(tmp_path / "r.trec") or {})["models"] == {"m": "abc"}


def test_interrupted_run_leaves_no_run_and_goes_on(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec", ["q1", "q2"])
    assert not (tmp_path / "r.trec").exists()
    assert finished(tmp_path / "r.trec", ["q1", "q2", "q3"]) == 2
    assert read_run(tmp_path / "r.trec").lines == 6


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize("damage", [b"\x00\x00", b"3", b'["q1", null]', b"[1]"])
def test_damaged_journal_is_an_error_that_names_the_way_out(tmp_path: Path, line: int, damage: bytes) -> None:
    interrupted(tmp_path / "r.trec", ["q1", "q2"])
    journal = tmp_path / "r.trec.partial" / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[line] = damage + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(EvaluationError, match=r"r.trec.partial: .* is damaged .*--restart"):
        finished(tmp_path / "r.trec", ["q1", "q2"])
    with ResumableRun(tmp_path / "r.trec", OPTIONS, restart=True) as run:
        run.add("q1", ["d1"], [1.0])
        run.finish(MADE)
    assert list(read_run(tmp_path / "r.trec")) == ["q1"]


def test_run_for_a_link_goes_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "r.trec").symlink_to(tmp_path / "far" / "r.trec")
    for _ in range(2):
        finished(tmp_path / "r.trec", ["q1"])
    assert (tmp_path / "r.trec").is_symlink()
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["r.trec", "r.trec.json"]
    assert (read_provenance(tmp_path / "r.trec") or {})["models"] == {"m": "abc"}


def test_run_is_not_written_over_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.trec")
    with pytest.raises(StorageError, match="is no file"):
        finished(tmp_path / "r.trec", ["q1"])
    assert [path.name for path in tmp_path.iterdir()] == ["r.trec"]


def test_question_without_hits_is_remembered_as_answered(tmp_path: Path) -> None:
    with ResumableRun(tmp_path / "r.trec", OPTIONS) as run:
        run.add("q1", [], [])
    assert finished(tmp_path / "r.trec", ["q1", "q2"]) == 1


@pytest.mark.parametrize("torn", [b"q3 Q0 d1 1 2.0 fou", b"q3 Q0 d1 1 2.0 fouille\nq3", b"\xc3"])
def test_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    interrupted(tmp_path / "r.trec", ["q1", "q2"])
    with (tmp_path / "r.trec.partial" / "run").open("ab") as stream:
        stream.write(torn)
    with (tmp_path / "r.trec.partial" / "journal").open("ab") as stream:
        stream.write(b'["q3", 1')
    assert finished(tmp_path / "r.trec", ["q1", "q2", "q3"]) == 2
    assert read_run(tmp_path / "r.trec").lines == 6


def test_journal_that_vouches_for_lost_lines_is_not_believed(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec", ["q1", "q2", "q3"])
    lines = tmp_path / "r.trec.partial" / "run"
    lines.write_bytes(lines.read_bytes()[:-5])
    assert finished(tmp_path / "r.trec", ["q1", "q2", "q3"]) == 2
    assert read_run(tmp_path / "r.trec").lines == 6


def test_run_of_other_options_is_not_taken_up(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec", ["q1"])
    with (
        pytest.raises(EvaluationError, match="k 10 then, 20 now"),
        ResumableRun(tmp_path / "r.trec", {**OPTIONS, "k": 20}),
    ):
        pass
    with ResumableRun(tmp_path / "r.trec", {**OPTIONS, "k": 20}, restart=True) as run:
        assert not run.done


def test_run_of_another_tag_is_not_taken_up(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec", ["q1"])
    with (
        pytest.raises(EvaluationError, match="tag fouille then, other now"),
        ResumableRun(tmp_path / "r.trec", OPTIONS, tag="other"),
    ):
        pass


def test_folder_in_the_place_of_a_run_is_refused_before_anything_is_ranked(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder"), ResumableRun(tmp_path, OPTIONS):
        pass


def test_run_that_answered_nothing_is_in_nobodys_way(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec", [])
    with suppress(KeyboardInterrupt), ResumableRun(tmp_path / "r.trec", {**OPTIONS, "k": 20}) as run:
        run.add("q1", ["d1"], [1.0])
        raise KeyboardInterrupt
    with pytest.raises(EvaluationError, match="k 20 then, 10 now"), ResumableRun(tmp_path / "r.trec", OPTIONS):
        pass


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom engine.evaluation.resumable import ResumableRun\n"
        "with ResumableRun(sys.argv[1], {}):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    output = tmp_path / "r.trec"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(EvaluationError, match="another process"), ResumableRun(output, {}):
            pass
        other.communicate("")


def test_killed_run_keeps_what_it_synced(tmp_path: Path) -> None:
    code = (
        "import sys, itertools\nfrom engine.evaluation import resumable\n"
        "resumable._SECONDS_BETWEEN_SYNCS = 0.01\n"
        "with resumable.ResumableRun(sys.argv[1], {'k': 10, 'measures': ['a', 'b']}) as run:\n"
        "    for number in itertools.count():\n"
        "        run.add(f'q{number}', ['d1', 'd2'], [2.0, 1.0])\n"
    )
    output = tmp_path / "r.trec"
    with subprocess.Popen([sys.executable, "-c", code, str(output)]) as other:
        journal = tmp_path / "r.trec.partial" / "journal"
        until = time.monotonic() + 30
        while time.monotonic() < until and (not journal.exists() or journal.stat().st_size < 5000):
            time.sleep(0.02)
        os.kill(other.pid, signal.SIGKILL)
    with ResumableRun(output, OPTIONS) as run:
        done = len(run.done)
        assert done > 50
        run.add("last", ["d1", "d2"], [2.0, 1.0])
        run.finish(MADE)
    read = read_run(output)
    assert len(read) == done + 1
    assert all(len(ranked.documents) == 2 for ranked in read.values())


def test_run_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "r.trec.partial").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot be written"), ResumableRun(tmp_path / "r.trec", {}):
        pass


def test_gzipped_run_goes_on_and_holds_what_the_plain_one_does(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.trec.gz", ["q1", "q2"])
    assert finished(tmp_path / "r.trec.gz", ["q1", "q2", "q3"]) == 2
    finished(tmp_path / "plain.trec", ["q1", "q2", "q3"])
    assert gzip.decompress((tmp_path / "r.trec.gz").read_bytes()) == (tmp_path / "plain.trec").read_bytes()
    assert not (tmp_path / "r.trec.gz.partial").exists()
    assert (read_provenance(tmp_path / "r.trec.gz") or {})["models"] == {"m": "abc"}


def test_run_cut_off_while_it_is_compressed_is_compressed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(StorageError, match="No space left"):
            finished(tmp_path / "r.trec.gz", ["q1", "q2"])
    assert not (tmp_path / "r.trec.gz").exists()
    assert finished(tmp_path / "r.trec.gz", ["q1", "q2"]) == 2
    assert read_run(tmp_path / "r.trec.gz").lines == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.trec.gz", "r.trec.gz.json"]


def test_provenance_names_versions_and_date_and_differs_only_where_it_matters(tmp_path: Path) -> None:
    write_provenance(tmp_path / "a", MADE)
    write_provenance(tmp_path / "b", Provenance("run", {"name": "c"}, {"m": "abc"}, {"k": 20}, {}, 9.0))
    one, other = read_provenance(tmp_path / "a"), read_provenance(tmp_path / "b")
    assert one is not None
    assert other is not None
    assert {"python", "numpy"} <= set(one["versions"])
    assert one["made"].endswith("+00:00")
    assert differences(one, other) == [("options.k", 10, 20), ("inputs.questions", "def", None)]


def test_provenance_that_is_not_json_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    assert read_provenance(tmp_path / "r") is None
    for text in ("{", "[1]"):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(EvaluationError, match="not"):
            read_provenance(tmp_path / "r")


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("q1\tun\n")
    before = file_fingerprint(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("q1\tdeux\n")
    assert file_fingerprint(tmp_path / "q.tsv") != before
    assert file_fingerprint("irds:x") == "irds:x"

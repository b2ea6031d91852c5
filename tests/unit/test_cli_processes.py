"""`fouille` as a person runs it: real processes, a small collection, BM25 alone."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("pyserini")

ROOT = Path(__file__).parents[2]
FOUILLE = [sys.executable, "-m", "cli"]
DOCUMENTS = {
    "cheval.txt": "Le cheval de trait.\n\nLes chevaux tirent la charrue au printemps.",
    "pain.md": "# Le pain\n\nLe levain fait lever la pâte du pain de campagne.",
    "piege.txt": "Le piège \x1b]52;c;cm0gLXJmIC8=\x07 du terminal \x1b[31mrouge\x1b[0m et \u202eenvers\u202c.",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of its own with one collection, `default`."""
    base = tmp_path_factory.mktemp("processes")
    for name, text in DOCUMENTS.items():
        (base / "ferme").mkdir(exist_ok=True)
        (base / "ferme" / name).write_text(text, encoding="utf-8")
    folders = {f"FOUILLE_{kind}_DIR": str(base / kind.lower()) for kind in ("DATA", "CACHE", "CONFIG")}
    variables = {**os.environ, **folders, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    for name in ("NO_COLOR", "PYTHONUNBUFFERED"):
        variables.pop(name, None)
    done = subprocess.run(
        [*FOUILLE, "index", str(base / "ferme"), "--first-stage", "bm25", "--format", "json"],
        env=variables, cwd=base, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["added"] == 3
    assert done.stderr == ""
    return variables


def fouille(environment: Mapping[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FOUILLE, *arguments], env=environment, input=stdin, capture_output=True, text=True)


def test_a_search_answers_with_json_and_nothing_else_on_stdout(environment: dict[str, str]) -> None:
    done = fouille(environment, "search", "les chevaux", "--format", "json", "--timing")
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert (answer["question"], answer["hits"][0]["key"]) == ("les chevaux", "ferme/cheval.txt")
    assert "ms" in done.stderr


def test_json_is_utf_8_whatever_the_locale(environment: dict[str, str]) -> None:
    latin = {**environment, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*FOUILLE, "show", "ferme/pain.md", "--format", "json"], env=latin, capture_output=True)
    assert "pâte" in json.loads(done.stdout.decode("utf-8"))["text"]


def test_strict_leaves_no_collection_behind(environment: dict[str, str]) -> None:
    done = fouille(environment, "index", "-", "-c", "stricte", "--first-stage", "bm25", "--strict", stdin="{bad\n")
    assert done.returncode == 2
    assert not Path(environment["FOUILLE_DATA_DIR"], "collections", "stricte").exists()


def test_a_terminal_escape_in_a_document_is_shown_harmless(environment: dict[str, str]) -> None:
    done = fouille(environment, "search", "piège du terminal", "-k", "1")
    assert "Le piège" in done.stdout
    assert not set(done.stdout) & {"\x1b", "\x07", "\u202e"}


def test_an_argument_that_is_no_utf_8_is_no_fault(environment: dict[str, str]) -> None:
    for arguments in ([b"show", b"\xff"], [b"remove", b"\xff"], [b"search", b"chevaux", b"--in", b"\xff"]):
        done = subprocess.run([*FOUILLE, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert "unexpected" not in done.stderr


def test_a_key_is_found_however_its_accents_were_typed(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "été.txt").write_text("La plage.", encoding="utf-8")
    own = {**environment, "FOUILLE_DATA_DIR": str(tmp_path / "data")}
    fouille(own, "index", str(tmp_path / "été.txt"), "--first-stage", "bm25")
    assert fouille(own, "show", "e\u0301te\u0301.txt").stdout.strip().endswith("La plage.")


def test_a_working_folder_that_is_gone_is_exit_2_in_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    script = f"import os; os.chdir({str(tmp_path)!r}); os.rmdir({str(tmp_path)!r}); import cli; cli.main()"
    command = [sys.executable, "-c", script, "search", "chevaux", "--no-rerank"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "working folder" in done.stderr


def test_no_hit_is_exit_1_and_nothing_on_stdout(environment: dict[str, str]) -> None:
    done = fouille(environment, "search", "xylophone", "--no-rerank")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "fouille: no passage found\n")


def test_no_hit_under_a_filter_names_it_on_one_line(environment: dict[str, str]) -> None:
    for filters, told in (
        (("--where", "langue=fr"), "no passage found under --where langue=fr"),
        (("--in", "aide/*\x1b[2J\n"), "no document's key matches --in 'aide/* '"),
    ):
        done = fouille(environment, "search", "chevaux", "--no-rerank", *filters)
        assert done.stderr == f"fouille: {told}\n"


def test_a_key_that_is_not_there_brings_a_suggestion(environment: dict[str, str]) -> None:
    for command in ("show", "remove"):
        done = fouille(environment, command, "cheval.txt")
        assert done.returncode == 1
        assert done.stderr == "fouille: cheval.txt: no such document (did you mean ferme/cheval.txt?)\n"


def test_list_prints_the_keys_of_a_collection(environment: dict[str, str]) -> None:
    assert fouille(environment, "list", "-c", "default").stdout == "ferme/cheval.txt\nferme/pain.md\nferme/piege.txt\n"
    one = fouille(environment, "list", "--in", "*.md", "--format", "json")
    assert (one.returncode, json.loads(one.stdout)) == (0, ["ferme/pain.md"])
    none = fouille(environment, "list", "--in", "nulle*")
    assert (none.returncode, none.stdout, none.stderr) == (1, "", "fouille: no document's key matches nulle*\n")


def test_no_hit_is_a_header_in_csv(environment: dict[str, str]) -> None:
    done = fouille(environment, "search", "xylophone", "--format", "csv")
    assert done.returncode == 1
    assert next(csv.reader(io.StringIO(done.stdout)))[:3] == ["rank", "score", "key"]


def test_an_empty_question_is_exit_2(environment: dict[str, str]) -> None:
    done = fouille(environment, "search", "  ")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fouille: the question is empty")


def test_a_closed_pipe_is_no_error(environment: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [*FOUILLE, "search", "pain", "--no-rerank"], env=environment, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")


def test_leaving_at_once_loses_no_output_and_no_last_act(environment: dict[str, str]) -> None:
    script = "import atexit, cli; atexit.register(print, 'done'); cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "search", "chevaux", "--format", "jsonl"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    *hits, last = done.stdout.splitlines()
    assert (len(hits), last) == (1, "done")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_exit_2_in_one_line(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*FOUILLE, "search", "chevaux", "--no-rerank"]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "fouille: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_was_closed_before_the_start_is_no_error(environment: dict[str, str], closed: int) -> None:
    command = shlex.join([*FOUILLE, "search", "chevaux", "--no-rerank", "--format", "json"])
    shell = ["sh", "-c", f"{command} {closed}>&-"]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed != 1)


def test_ctrl_c_is_130_and_frees_the_lock(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*FOUILLE, "index", "-", "-c", "interrompue", "--first-stage", "bm25"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write('{"id": "a", "text": "un"}\n')
    process.stdin.flush()
    lock = Path(environment["FOUILLE_DATA_DIR"], "collections", "interrompue", "write.lock")
    while not lock.exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "fouille: interrupted: run it again to go on\n")
    done = fouille(environment, "index", "-", "-c", "interrompue", stdin='{"id": "a", "text": "un"}\n')
    assert done.returncode == 0, done.stderr


def test_a_removed_document_is_gone_and_the_collection_sound(environment: dict[str, str]) -> None:
    lines = '{"id": "a/b", "text": "un"}\n{"id": "c", "text": "deux"}\n'
    fouille(environment, "index", "-", "-c", "jetable", "--first-stage", "bm25", stdin=lines)
    assert fouille(environment, "show", "c", "-c", "jetable").stdout.endswith("\n\ndeux\n")
    removed = fouille(environment, "remove", "a/*", "nulle*", "-c", "jetable")
    assert (removed.stdout, removed.stderr) == ("removed 1 document\n", "fouille: nulle*: no such document\n")
    assert fouille(environment, "show", "a/b", "-c", "jetable").returncode == 1
    sound = fouille(environment, "verify", "-c", "jetable", "--format", "json")
    assert (sound.returncode, json.loads(sound.stdout)["state"]) == (0, "sound")


def test_info_and_list_as_json(environment: dict[str, str]) -> None:
    assert json.loads(fouille(environment, "info", "--format", "json").stdout)["documents"] == 3
    names = [one["name"] for one in json.loads(fouille(environment, "list", "--format", "json").stdout)]
    assert "default" in names


def test_doctor_reports_as_json(environment: dict[str, str]) -> None:
    done = fouille(environment, "doctor", "--format", "json")
    report = json.loads(done.stdout)
    assert {"Python", "Java", "Lucene", "torch", "data folder"} <= {check["name"] for check in report["checks"]}
    assert done.returncode == (0 if report["works"] else 2)


# On a terminal ----------------------------------------------------------------------------------------------------


def on_a_terminal(environment: Mapping[str, str], *arguments: str) -> str:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        FOUILLE[0], [*FOUILLE[1:], *arguments], env=environment, dimensions=(40, 80), encoding="utf-8"
    )
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    assert isinstance(shown, str)
    return shown


def test_a_terminal_gets_colour(environment: dict[str, str]) -> None:
    assert "\x1b[1;33mchevaux\x1b[0m" in on_a_terminal(environment, "search", "cheval", "--no-rerank")


def test_no_color_is_respected(environment: dict[str, str]) -> None:
    shown = on_a_terminal({**environment, "NO_COLOR": "1"}, "search", "cheval", "--no-rerank")
    assert "chevaux" in shown
    assert not re.search("\x1b\\[[0-9;]*m", shown)


def test_indexing_shows_progress_on_a_terminal(environment: dict[str, str]) -> None:
    source = str(Path(environment["FOUILLE_DATA_DIR"]).parent / "ferme")
    shown = on_a_terminal(environment, "index", source, "-c", "vue", "--first-stage", "bm25")
    assert "reading" in shown
    assert re.search(r"added\S*\s+3", shown)

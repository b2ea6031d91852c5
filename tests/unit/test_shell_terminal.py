"""`fouille shell` through a pseudo-terminal, and fed by a pipe."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")
pytest.importorskip("pyserini")

ROOT = Path(__file__).parents[2]
FOUILLE = [sys.executable, "-m", "cli"]
TOOLBAR = "│ .help"  # shown while the shell waits for a line, and only then
LINES = "\n".join(f'{{"id": "{key}", "text": "{text}"}}' for key, text in (("a", "Le cheval."), ("b", "Le pain.")))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of its own with two collections, `default` and `autre`."""
    base = tmp_path_factory.mktemp("shell")
    folders = {f"FOUILLE_{kind}_DIR": str(base / kind.lower()) for kind in ("DATA", "CACHE", "CONFIG")}
    variables = {**os.environ, **folders, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    for name in ("default", "autre"):
        subprocess.run(
            [*FOUILLE, "index", "-", "-c", name, "--first-stage", "bm25"],
            env=variables, input=LINES, text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return variables


class Screen:
    """A shell in a pseudo-terminal of 80 columns and 30 rows, and what a person sees of it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.child = pexpect.spawn(
            FOUILLE[0], [*FOUILLE[1:], "shell"], env=environment, dimensions=(30, 80), encoding="utf-8", timeout=60
        )
        self._screen = pyte.Screen(80, 30)
        self._screen.write_process_input = self.child.send  # prompt_toolkit asks where the cursor is
        self._stream = pyte.Stream(self._screen)

    def wait_for(self, text: str) -> str:
        """The screen once it shows `text`."""
        deadline = time.monotonic() + 60
        while text not in (shown := "\n".join(self._screen.display)):
            assert time.monotonic() < deadline, f"{text!r} is not on:\n{shown}"
            try:
                self._stream.feed(self.child.read_nonblocking(4096, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                pytest.fail(f"the shell ended, {text!r} is not on:\n{shown}")
        return shown

    def type(self, line: str) -> None:
        self.child.send(f"{line}\r")

    def leave(self) -> None:
        """Empty the line, then Ctrl-D."""
        self.child.sendcontrol("u")
        self.child.sendcontrol("d")
        assert self.end() == 0

    def end(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        code: int = self.child.exitstatus
        return code


@pytest.fixture
def screen(environment: dict[str, str]) -> Iterator[Screen]:
    shell = Screen(environment)
    shell.wait_for(TOOLBAR)
    yield shell
    shell.child.close(force=True)


def test_a_session_searches_explains_switches_and_leaves(screen: Screen) -> None:
    assert "default" in screen.wait_for(TOOLBAR)
    screen.type("cheval")
    screen.wait_for("Le cheval.")
    screen.wait_for(" ms │")
    screen.type(".explain 1")
    screen.wait_for("bm25 0.")
    screen.type(".collection autre")
    screen.wait_for("collection autre")
    screen.type(".nope")
    screen.wait_for("no command is called .nope")
    screen.wait_for(TOOLBAR)
    screen.child.send("à moitié")
    screen.wait_for("à moitié")
    screen.child.sendcontrol("c")
    screen.type(".timing on")
    screen.wait_for("\ntiming on")
    screen.wait_for(TOOLBAR)
    screen.child.send(".first\t")
    screen.wait_for(".first-stage")
    screen.leave()


def test_lines_of_an_earlier_session_come_back(environment: dict[str, str], screen: Screen) -> None:
    screen.type("le pain de jadis")
    screen.wait_for("Le pain.")
    screen.wait_for(TOOLBAR)
    screen.type(".quit")
    assert screen.end() == 0
    second = Screen(environment)
    second.wait_for(TOOLBAR)
    second.child.send("\x1b[A\x1b[A")
    second.wait_for("le pain de jadis")
    second.leave()
    history = Path(environment["FOUILLE_DATA_DIR"], "history")
    assert history.stat().st_mode & 0o077 == 0


def test_a_pipe_feeds_the_shell(environment: dict[str, str]) -> None:
    done = _feed(environment, ".k 1\nle cheval\nle pain\n")
    assert done.returncode == 0
    assert done.stdout.count(" 1  ") == 2
    assert "» le pain" in done.stdout
    assert "fouille>" not in done.stdout


def test_a_line_that_fails_makes_the_pipe_exit_2_at_its_end(environment: dict[str, str]) -> None:
    done = _feed(environment, ".nope\nle pain\n")
    assert done.returncode == 2
    assert "Le pain." in done.stdout


def test_an_unknown_collection_is_exit_2_at_once(environment: dict[str, str]) -> None:
    done = _feed(environment, "le pain\n", "-c", "nulle")
    assert (done.returncode, done.stdout) == (2, "")


def _feed(environment: Mapping[str, str], lines: str, *arguments: str) -> Any:
    return subprocess.run(
        [*FOUILLE, "shell", *arguments], env=environment, input=lines, capture_output=True, text=True, check=False
    )

"""The command line in this process: help, usage errors, and what needs no Java."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import cli
from engine.errors import StorageError
from engine.records import SearchResult
from engine.terminal import options
from engine.terminal.given import without_effect


def commands(group: Any = None, *names: str) -> Iterator[tuple[str, ...]]:
    """The words of every command, and of every group."""
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        yield (*names, name)
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)


COMMANDS = list(commands())
GROUPS = [(), *sorted({words[:-1] for words in COMMANDS if len(words) > 1})]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_s_help_shows_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words, "--help") == 0
    assert f"Example:\n    fouille {' '.join(words)}" in capsys.readouterr().out


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_help_names_every_command_and_says_in_full_what_it_does(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words, "--help")
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert all(f"\n  {own[-1]} " in listed for own in COMMANDS if own[:-1] == words)
    assert "..." not in listed


def test_no_command_is_a_usage_error_that_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search"], "Missing argument 'QUESTION'"),
        (["serch", "x"], "Did you mean 'search'?"),
        (["search", "x", "--format", "xml"], "'--format'"),
        (["search", "x", "-k", "many"], "'-k'"),
        (["search", "x", "-k", "0"], "not a whole number from 1 up"),
        (["search", "x", "--b", "7"], "not a number from 0 to 1"),
        (["search", "x", "--where", "langue"], "not KEY=VALUE"),
        (["search", "x", "--first-stage", "magic"], "--first-stage"),
        (["search", "x", "--nope"], "--nope"),
        (["search", "x", "-c", "nulle-part"], "no such collection"),
        (["search", "x", "--per-document", "0"], "--per-document: '0' is not a whole number from 1 up"),
        (["search", "une", "question"], "(question): put the question in quotes (see fouille search --help)"),
        (["search", "-prix du pain"], "what begins with a dash and is no flag goes last, after --"),
        (["search", "--", "-prix du pain", "-c", "notes"], "flags go before --"),
        (["search", "x", "--in"], "(see fouille search --help)"),
        (["info", "-c", ".."], "cannot name a collection"),
        (["index", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("fouille: ")
    assert said in shown.err


def test_an_error_s_text_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run("index", "/nowhere/\x1b[2J\u202e")
    assert not set(capsys.readouterr().err) & {"\x1b", "\u202e"}


def failing(error: BaseException) -> SimpleNamespace:
    def main(*_: object, **__: object) -> None:
        raise error

    return SimpleNamespace(main=main)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StorageError("the disk is full", where="/data", hint="make room"), "/data: the disk is full (make room)"),
        (PermissionError(13, "Permission denied", "/data/x"), "/data/x: Permission denied"),
        (MemoryError(), "out of memory (try smaller --batch-tokens or fewer --candidates)"),
        (ValueError("odd\nvalue"), "unexpected ValueError: odd value (fouille --debug shows where)"),
    ],
)
def test_whatever_is_raised_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.typer.main, "get_command", lambda _: failing(error))
    assert run("list") == 2
    assert capsys.readouterr().err == f"fouille: {line}\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ValueError("odd")

    monkeypatch.setattr(cli, "resolve", lambda *_: broken())
    assert run("--debug", "models") == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "resolve", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("models") == 130
    assert capsys.readouterr().err == "fouille: interrupted\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [([], "fouille: interrupted: run it again to go on\n"), (["--rebuild"], "fouille: interrupted\n")],
)
def test_an_interrupted_index_can_be_run_again(
    flags: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "settings_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("index", "x", *flags) == 130
    assert capsys.readouterr().err == line


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two folders where collections lie, which are none."""
    for name in ("aide", "personnel"):
        (tmp_path / "collections" / name).mkdir(parents=True)
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["-c", "pers"], "(did you mean personnel?)"),
        (["-c", "adie"], "(did you mean aide?)"),
        (["-c", "xyz"], "(see fouille list"),
        ([], "(choose one with -c NAME: aide, personnel)"),
    ],
)
def test_a_collection_that_is_not_there_brings_a_suggestion(
    flags: list[str], hint: str, named: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info", *flags) == 2
    assert hint in capsys.readouterr().err


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("fouille ")


def test_no_collections_is_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path))
    assert run("list", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_models_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--format", "json") == 0
    names = {model["name"] for model in json.loads(capsys.readouterr().out)}
    assert "antoinelouis/crossencoder-mMiniLMv2-L6-mmarcoFR" in names


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FOUILLE_COLLECTION", "de-l-environnement")
    run("info")
    run("info", "-c", "du-drapeau")
    first, second = capsys.readouterr().err.splitlines()
    assert "de-l-environnement" in first
    assert "du-drapeau" in second


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fouille search --format ", ["text", "json", "jsonl", "csv", "trec"]),
        ("fouille search --first-stage h", ["hybrid"]),
        ("fouille search -c ai", ["aide"]),
        ("fouille ver", ["verify"]),
        ("fouille index --encoder BAAI", ["BAAI/bge-m3"]),
    ],
)
def test_the_shell_completes_commands_values_and_collections(
    words: str, found: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("aide", "droit"):
        (tmp_path / "collections" / name).mkdir(parents=True)
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("_FOUILLE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert run() == 0
    assert capsys.readouterr().out.split() == found


def test_collection_names_of_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path / "nulle"))
    assert options.collection_names() == []


def test_the_command_line_starts_without_heavy_libraries() -> None:
    import subprocess

    script = "import sys, cli; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    heavy = {"torch", "faiss", "jnius", "transformers", "tokenizers", "rich", "prompt_toolkit", "numpy", "pydantic"}
    assert heavy.isdisjoint(shown.stdout.split())


def test_flags_that_do_nothing_are_told_of() -> None:
    given = {"k1": 1.5, "b": None, "interpolate": 0.0, "max_length": 64, "reranker": None}
    dense = SearchResult("q", (), first_stage="dense", reranker="m")
    assert without_effect(given, dense) == ["without effect, as the first stage is dense: --k1"]
    plain = SearchResult("q", (), first_stage="bm25")
    assert without_effect(given, plain) == ["without effect, as nothing is reranked: --interpolate --max-length"]
    assert without_effect(dict.fromkeys(given), plain) == []
    assert without_effect({"candidates": 3}, plain) == ["without effect, as nothing is reranked: --candidates"]
    assert without_effect({"candidates": 3}, replace(plain, first_stage="hybrid")) == []


def test_indexing_nothing_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vide.txt").write_text(" ", "utf-8")
    assert run("index", str(tmp_path / "vide.txt"), "-c", str(tmp_path / "c"), "--first-stage", "bm25") == 2
    shown = capsys.readouterr()
    assert "vide.txt: empty document" in shown.out
    assert "no collection was made" in shown.err

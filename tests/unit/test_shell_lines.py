"""What the shell's lines do, on a collection made of one hit."""

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CollectionDamaged, CollectionNotFound, InvalidOption, InvalidQuestion, ModelNotFound
from engine.records import Document, Hit, SearchOptions, SearchResult
from engine.terminal.prompt import completions, read_lines
from engine.terminal.shell import Shell
from engine.terminal.shell_commands import COMMANDS
from engine.terminal.viewer import _safe_name, view

TEXT = "Premier paragraphe.\nLe cheval trotte.\x1b]52;c;QQ==\x07"
HIT = Hit("ferme/a.txt", 1, "Le cheval trotte.", "Ferme", 20, 37, None, 2, {}, 1, 0.5, ((3, 9),), 1, 7.0)


class OneHit:
    """A collection that answers every question alike, and remembers what it was asked."""

    def __init__(self, name: str = "ferme") -> None:
        self.name = name
        self.asked: list[tuple[str, SearchOptions]] = []
        self.closed = False
        self.memory = {"first_stage": "hybrid"}
        self.prepared: list[SearchOptions] = []

    def prepare(self, options: SearchOptions) -> None:
        self.prepared.append(options)
        raise CollectionDamaged("told by the search")

    def search(self, question: str, options: SearchOptions) -> SearchResult:
        self.asked.append((question, options))
        if question == "rien":
            return SearchResult(question, ())
        if question == "vide":
            raise InvalidQuestion("the question is empty")
        if question == "stop":
            raise KeyboardInterrupt
        if question == "sans modèle":
            hint = "do without: --no-rerank, --first-stage bm25, or --rebuild"
            raise ModelNotFound("no --k such model", where="--first-stage dense", hint=hint)
        return SearchResult(question, (HIT,), {"total": 0.012}, ("no reranker at hand",), 100, 0, "hybrid")

    def document(self, key: str) -> Document:
        return Document(key, TEXT)

    def keys(self, glob: str | None = None) -> list[str]:
        return [] if glob == "nulle-part" else [HIT.key]

    def info(self) -> dict[str, Any]:
        return {"documents": 1}

    def close(self) -> None:
        self.closed = True


def opener(name: str) -> Any:
    if name != "autre":
        raise CollectionNotFound("no such collection", where=name)
    return OneHit(name)


@pytest.fixture
def shell() -> Shell:
    collection: Any = OneHit()
    return Shell(opener, collection, out=io.StringIO(), err=io.StringIO())


def said(shell: Shell) -> str:
    assert isinstance(shell.out, io.StringIO)
    return shell.out.getvalue()


def complained(shell: Shell) -> str:
    assert isinstance(shell.err, io.StringIO)
    return shell.err.getvalue()


def asked(shell: Shell) -> Any:
    collection: Any = shell.collection
    return collection.asked


def test_a_bare_line_searches(shell: Shell) -> None:
    assert shell.attempt("un cheval ?")
    assert asked(shell)[0][0] == "un cheval ?"
    assert " 1  0.5000  Ferme" in said(shell)


def test_an_empty_line_does_nothing(shell: Shell) -> None:
    assert shell.attempt("  ")
    assert not asked(shell)


@pytest.mark.parametrize("line", [" .net, c'est quoi ?", "... et après ?"])
def test_a_question_may_begin_with_a_dot(shell: Shell, line: str) -> None:
    shell.attempt(line)
    assert asked(shell)[0][0] == line.strip()


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        (".k 20", "k", 20),
        (".candidates 200", "candidates", 200),
        (".rerank off", "rerank", False),
        (".first-stage dense", "first_stage", "dense"),
        (".in aide/*", "keys", "aide/*"),
        ('.in "aide/*"', "keys", "aide/*"),
        (".in l'aide/*", "keys", "l'aide/*"),
        (".where langue=fr", "where", {"langue": ("fr",)}),
        (".where langue='fr'", "where", {"langue": ("fr",)}),
        (".k1 1.2", "k1", 1.2),
        (".b 0.5", "b", 0.5),
        (".interpolate 2", "interpolate", 2.0),
        (".per-document 1", "per_document", 1),
        (".long-passages maxp", "long_passages", "maxp"),
    ],
)
def test_an_option_holds_for_the_next_search(shell: Shell, line: str, field: str, value: object) -> None:
    assert shell.attempt(line)
    shell.attempt("cheval")
    assert asked(shell)[0][1] == replace(SearchOptions(), **{field: value})


@pytest.mark.parametrize(
    "line",
    [
        ".k 0",
        ".k x",
        ".k " + "9" * 4400,
        ".b 2",
        ".k1 -1",
        ".b nan",
        ".rerank maybe",
        ".first-stage x",
        ".where x",
        ".long-passages cut",
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(shell: Shell, line: str) -> None:
    assert not shell.attempt(line)
    assert shell.options == SearchOptions()
    assert complained(shell).startswith("fouille: ")


@pytest.mark.parametrize("line", [".k 0", ".b 2", ".per-document x", ".first-stage x", ".long-passages cut"])
def test_a_bad_value_is_told_with_its_option(shell: Shell, line: str) -> None:
    shell.attempt(line)
    assert complained(shell).startswith(f"fouille: {line.split()[0]}: ")


def test_default_gives_an_option_back(shell: Shell) -> None:
    for line in (".k 3", ".where a=1", ".k default", ".where default"):
        shell.attempt(line)
    assert shell.options == SearchOptions()


def test_conditions_add_up(shell: Shell) -> None:
    shell.attempt(".where a=1")
    shell.attempt(".where b=2")
    shell.attempt(".where a=3")
    assert shell.options.where == {"a": ("1", "3"), "b": ("2",)}


def test_an_option_without_a_value_is_shown(shell: Shell) -> None:
    shell.attempt(".rerank off")
    shell.attempt(".rerank")
    assert said(shell) == "rerank off\nrerank off\n"


def test_an_unknown_command_brings_a_suggestion(shell: Shell) -> None:
    assert not shell.attempt(".explian 1")
    assert complained(shell) == "fouille: no command is called .explian (did you mean .explain?)\n"


def test_help_names_every_command(shell: Shell) -> None:
    shell.attempt(".help")
    assert all(f".{name}" in said(shell) for name in COMMANDS)


def test_explain_shows_one_hit(shell: Shell) -> None:
    shell.attempt("cheval")
    shell.attempt(".explain 1")
    assert said(shell).endswith("bm25 7.0000 (#1)\n")


@pytest.mark.parametrize("line", [".explain 2", ".open 0", ".open x"])
def test_a_rank_that_is_not_there_is_refused(shell: Shell, line: str) -> None:
    shell.attempt("cheval")
    assert not shell.attempt(line)
    assert "is no rank (1 to 1)" in complained(shell)


@pytest.mark.parametrize("name", ["full", "timing", "explain"])
def test_a_switch_without_a_value_is_shown_and_stays(shell: Shell, name: str) -> None:
    for line in (f".{name}", f".{name} on", f".{name}"):
        assert shell.attempt(line)
    assert said(shell) == f"{name} off\n{name} on\n{name} on\n"


def test_a_reranker_is_looked_for_at_once(shell: Shell, tmp_path: Path) -> None:
    assert not shell.attempt(".reranker un/modele")
    assert "un/modele" in complained(shell)
    assert ".rerank off" in complained(shell)
    assert shell.options.reranker is None
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert not shell.attempt(f".reranker {tmp_path}")
    assert "base model" in complained(shell)
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert shell.attempt(f".reranker {tmp_path}")
    assert shell.options.reranker == str(tmp_path)


def test_hints_name_commands_of_the_shell(shell: Shell) -> None:
    assert not shell.attempt("sans modèle")
    assert complained(shell) == (
        "fouille: .first-stage dense: no --k such model (do without: .rerank off, .first-stage bm25, or --rebuild)\n"
    )


def test_a_hint_to_choose_a_collection_is_the_shell_s(shell: Shell) -> None:
    def none(_: str) -> Any:
        raise CollectionNotFound("no such collection", hint="choose one with -c NAME: aide")

    shell.opener = none
    assert not shell.attempt(".collection default")
    assert complained(shell).endswith("(choose one with .collection NAME: aide)\n")


def test_explain_before_a_search_is_refused(shell: Shell) -> None:
    with pytest.raises(InvalidOption, match="no hits"):
        shell.handle(".explain 1")


def test_explain_on_holds_for_every_search(shell: Shell) -> None:
    shell.attempt(".explain on")
    shell.attempt("cheval")
    assert "hybrid → 100 candidates → no reranker" in said(shell)


def test_timing_goes_to_stderr(shell: Shell) -> None:
    shell.attempt(".timing on")
    shell.attempt("cheval")
    assert "total 12.0 ms" in complained(shell)


def test_a_notice_is_not_repeated(shell: Shell) -> None:
    shell.attempt("cheval")
    shell.attempt("cheval")
    assert complained(shell).count("no reranker at hand") == 1


def test_no_hit_is_said_and_is_no_failure(shell: Shell) -> None:
    assert shell.attempt("rien")
    assert complained(shell) == "fouille: no passage found\n"


def test_no_hit_under_a_filter_names_it(shell: Shell) -> None:
    for line in (".in aide/*", ".where langue=fr", "rien"):
        assert shell.attempt(line)
    assert complained(shell) == "fouille: no passage found under .in aide/* .where langue=fr\n"


def test_a_filter_that_no_document_matches_is_told_apart(shell: Shell) -> None:
    for line in (".in nulle-part", "rien"):
        assert shell.attempt(line)
    told = "no document's key matches .in nulle-part (for all in a folder: nulle-part/*)"
    assert complained(shell) == f"fouille: {told}\n"


def test_an_interrupt_stops_the_search_and_keeps_the_shell(shell: Shell) -> None:
    assert not shell.attempt("stop")
    assert complained(shell) == "fouille: stopped\n"
    assert shell.attempt("cheval")


def test_an_interrupt_ends_a_shell_that_reads_from_a_pipe(shell: Shell) -> None:
    shell.interactive = False
    with pytest.raises(KeyboardInterrupt):
        read_lines(shell, ["stop\n", "cheval\n"])
    assert [question for question, _ in asked(shell)] == ["stop"]


def test_another_collection_takes_the_place_of_this_one(shell: Shell) -> None:
    first: Any = shell.collection
    assert shell.attempt(".collection autre")
    assert (shell.collection.name, first.closed) == ("autre", True)


def test_filters_that_go_with_their_collection_are_told_of(shell: Shell) -> None:
    assert shell.attempt(".in aide/*")
    assert shell.attempt(".where langue=fr")
    assert shell.attempt(".collection autre")
    assert complained(shell) == "fouille: no longer asked: .in aide/* .where langue=fr\n"


def test_an_option_that_is_not_set_shows_what_the_collection_remembers(shell: Shell) -> None:
    for line in (".first-stage", ".interpolate", ".first-stage bm25"):
        assert shell.attempt(line)
    assert said(shell) == "first-stage default: hybrid, the collection's\ninterpolate default\nfirst-stage bm25\n"


def test_a_first_stage_that_the_other_collection_lacks_stays_behind(shell: Shell) -> None:
    assert shell.attempt(".first-stage dense")
    assert shell.attempt(".collection autre")
    assert shell.options.first_stage == "dense"
    lexical: Any = OneHit("lexical")
    lexical.memory = {"first_stage": "bm25"}
    shell.opener = lambda _: lexical
    assert shell.attempt(".collection lexical")
    assert shell.options.first_stage is None


def test_an_unknown_collection_leaves_this_one_open(shell: Shell) -> None:
    first: Any = shell.collection
    assert not shell.attempt(".collection nulle")
    assert (shell.collection, first.closed) == (first, False)


def test_quit_ends_the_lines(shell: Shell) -> None:
    assert read_lines(shell, [".quit\n", "cheval\n"])
    assert not asked(shell)


def test_models_are_asked_for_before_the_first_line_and_what_fails_is_told_by_the_search(shell: Shell) -> None:
    assert read_lines(shell, ["cheval\n"])
    assert shell.collection.prepared == [shell.options]  # type: ignore[attr-defined]


def test_lines_from_a_pipe_go_on_after_a_failure(shell: Shell) -> None:
    shell.interactive = False
    assert not read_lines(shell, ["vide\n", "cheval\r\n"])
    assert said(shell).startswith("» cheval\n")


def test_open_writes_a_harmless_text_where_there_is_no_terminal(shell: Shell) -> None:
    shell.interactive = False
    read_lines(shell, ["cheval\n", ".open 1\n"])
    assert said(shell).endswith("Premier paragraphe.\nLe cheval trotte.\n")


def test_the_toolbar_names_collection_mode_and_last_timing(shell: Shell) -> None:
    assert shell.status() == ("ferme", "hybrid", "–")
    shell.attempt("cheval")
    assert shell.status() == ("ferme", "hybrid, no reranker at hand", "12 ms")


def test_the_toolbar_knows_no_reranker_missing_that_was_not_asked_for(shell: Shell) -> None:
    for line in (".rerank off", "cheval"):
        shell.attempt(line)
    assert shell.status()[1] == "hybrid, no reranker"
    shell.attempt(".rerank on")
    assert shell.status()[1] == "hybrid, reranked"
    shell.attempt(".rerank default")
    assert shell.status()[1] == "hybrid"


def test_the_toolbar_shows_the_stage_of_the_next_search(shell: Shell) -> None:
    for line in (".first-stage bm25", "cheval", ".first-stage dense"):
        shell.attempt(line)
    assert shell.status()[1] == "dense, no reranker at hand"


def test_the_toolbar_shows_filters(shell: Shell) -> None:
    shell.attempt(".in aide/*")
    shell.attempt(".where langue=fr")
    assert shell.status() == ("ferme", "hybrid", "in aide/*", "where langue=fr", "–")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (".first", [".first-stage"]),
        (".first-stage d", ["dense", "default"]),
        (".rerank o", ["on", "off"]),
        (".nope x", []),
        ("premier", []),
    ],
)
def test_completion_knows_commands_and_their_values(line: str, words: list[str]) -> None:
    assert [word for word, _, _ in completions(line)] == words


def test_completion_names_collections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path))
    for name in ("aide", "aviation", "droit", ".temporary"):
        (tmp_path / "collections" / name).mkdir(parents=True)
    assert [word for word, _, _ in completions(".collection a")] == ["aide", "aviation"]


PROGRAM = """
import pathlib, stat, sys
*options, path = sys.argv[1:]
mode = stat.S_IMODE(pathlib.Path(path).stat().st_mode)
pathlib.Path({seen!r}).write_text(repr((options, oct(mode), pathlib.Path(path).name, pathlib.Path(path).read_text())))
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """A stand-in for `less`, which writes down what it is given."""
    script = tmp_path / "less"
    script.write_text(f"#!{sys.executable}\n{PROGRAM.format(seen=str(tmp_path / 'seen'))}")
    script.chmod(0o700)
    return script


def test_a_pager_opens_a_folded_copy_at_the_hit(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", str(program))
    view("un deux trois quatre\ncinq", 2, io.StringIO(), key="ferme/a b.txt", width=10)
    expected = (["+4"], "0o400", "a_b.txt", "un deux\ntrois\nquatre\ncinq")
    assert (tmp_path / "seen").read_text() == repr(expected)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("aide/savon.md", "savon.md.txt"),
        ("table.csv#12", "table.csv_12.txt"),
        ("../..", "document.txt"),
        ("-rf $(x);\x1b[2J", "rf_x_2J.txt"),
        ("é" * 300, "é" * 60 + ".txt"),
    ],
)
def test_a_copy_is_named_after_its_document_safely(key: str, name: str) -> None:
    assert _safe_name(key) == name


def test_an_editor_opens_an_unfolded_copy(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{program} --clean")
    view("un deux trois quatre\ncinq", 2, io.StringIO(), key="a", width=10, editor=True)
    assert "un deux trois quatre\\ncinq" in (tmp_path / "seen").read_text()
    assert (tmp_path / "seen").read_text().startswith("(['--clean', '+2']")


@pytest.mark.parametrize("pager", ["/nowhere/to/be/found", "'"])
def test_a_pager_that_cannot_run_is_an_error(pager: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", pager)
    with pytest.raises(InvalidOption, match="cannot be run"):
        view("texte", 1, io.StringIO(), key="a", width=80)


def test_without_an_editor_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    with pytest.raises(InvalidOption, match=r"\$EDITOR"):
        view("texte", 1, io.StringIO(), key="a", width=80, editor=True)


def test_without_a_pager_the_text_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER", raising=False)
    monkeypatch.setenv("PATH", "")
    out = io.StringIO()
    view("un deux", 1, out, key="a", width=80)
    assert out.getvalue() == "un deux\n"

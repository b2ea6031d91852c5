"""Reports as columns, and the checks of the doctor."""

import io
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from engine.errors import DependencyMissing
from engine.records import AddReport, Document, Rejection
from engine.settings import Settings, resolve
from engine.terminal import doctor, known_models
from engine.terminal.formats import to_json
from engine.terminal.progress import progress
from engine.terminal.style import PLAIN, Style
from engine.terminal.tables import add_report, add_report_record, collections, columns, document, document_record, pairs

REPORT = AddReport(
    added=1200, updated=3, unchanged=40, removed=1, passages=5012, seconds={"reading": 1.25, "bm25": 12.0}
)


def rejecting() -> AddReport:
    report = AddReport()
    report.reject(Rejection("a.jsonl", "no field \x1b[31mtext", 3))
    return report


def test_columns_align_numbers_to_the_right_and_wide_text_by_cells() -> None:
    assert columns([("漢字", 5), ("abc", 1000)], PLAIN, header=("nom", "n")) == "nom       n\n漢字      5\nabc   1,000"


def test_columns_of_nothing_are_their_header() -> None:
    assert columns([], PLAIN, header=("a", "b")) == "a  b"


def test_values_are_as_exact_as_they_are() -> None:
    assert pairs({"fusion_weight": 0.75, "k1": 1.25, "passages": 3586}, PLAIN).split() == [
        *("fusion", "weight", "0.75"),
        *("k1", "1.25", "passages", "3,586"),
    ]
    found = Document("a", "Un texte.", metadata={"annee": 2020, "prix": 1.25})
    assert document(found, PLAIN).splitlines()[2:4] == ["annee: 2020", "prix: 1.25"]


def test_a_report_counts_documents_passages_and_seconds() -> None:
    assert add_report(REPORT, PLAIN) == (
        "documents\nadded      1,200\nupdated        3\nunchanged     40\nremoved        1\nrejected       0\n\n"
        "passages   5,012\n\nseconds\nreading   1.2\nbm25     12.0"
    )


def test_a_report_gives_the_reasons_of_rejections_harmlessly() -> None:
    assert add_report(rejecting(), PLAIN).endswith("rejected\n  a.jsonl:3: no field text")


def test_a_report_says_how_many_reasons_it_leaves_out() -> None:
    report = AddReport()
    for line in range(1, 26):
        report.reject(Rejection("a.jsonl", "no text", line))
    assert "rejected (the first 20 of 25; --format json has more)" in add_report(report, PLAIN)
    assert [one["line"] for one in add_report_record(report)["rejections"]] == list(range(1, 26))


def test_a_report_s_record_has_every_count_and_reason() -> None:
    assert add_report_record(rejecting()) == {
        "added": 0,
        "updated": 0,
        "unchanged": 0,
        "removed": 0,
        "rejected": 1,
        "passages": 0,
        "rejections": [{"where": "a.jsonl", "line": 3, "reason": "no field \x1b[31mtext"}],
        "skipped": {},
        "seconds": {},
        "notices": [],
    }


def test_pairs_set_a_mapping_in_below_its_name() -> None:
    record = {"name": "aide", "first_stage": None, "bytes": {"bm25": 1234}, "sources": [{"name": "a"}], "problems": []}
    assert pairs(record, PLAIN) == (
        "name         aide\nfirst stage  –\nbytes\n  bm25  1,234\nsources\n  name a\nproblems     –"
    )


def test_collections_are_one_a_line() -> None:
    found = [{"name": "aide", "documents": 424, "first_stage": "bm25", "error": None}]
    assert collections(found, PLAIN) == "name  documents  first stage\naide        424  bm25"


def test_collections_tell_below_them_what_is_damaged() -> None:
    found = [{"name": "aide", "documents": None, "error": "CURRENT is \x1b[31mgone"}]
    assert collections(found, PLAIN) == "name  documents\naide\naide: CURRENT is gone"


def test_collections_leave_out_paths_that_do_not_fit() -> None:
    found = [{"name": "aide", "path": "/" + "x" * 40, "documents": 424}]
    assert "/xxx" in collections(found, Style(width=80))
    assert collections(found, Style(width=40)) == "name  documents\naide        424"


def test_a_last_column_of_text_is_folded_between_words() -> None:
    shown = columns([("une ligne", "des mots qui ne tiennent pas")], Style(width=31))
    assert shown == "une ligne  des mots qui ne\n           tiennent pas"


def test_a_report_names_the_kinds_of_files_that_were_passed_over() -> None:
    report = AddReport(skipped=Counter({".log": 3, ".e\x1b[31mml": 4, "no extension": 2}))
    assert "\npassed over  9 files (.eml 4, .log 3, no extension 2)\n" in add_report(report, PLAIN)


def test_a_document_is_shown_page_by_page() -> None:
    shown = document(Document("a.pdf", "un\ndeux", "Titre", {"langue": "fr"}, pages=(0, 3)), PLAIN)
    assert shown == "Titre\na.pdf\nlangue: fr\n\n— p. 1 —\nun\n\n— p. 2 —\ndeux"


def test_a_document_without_pages_is_shown_whole_and_harmless() -> None:
    assert document(Document("a\x1b[2J.txt", "un\x1b[2J\ndeux"), PLAIN) == "a.txt\na.txt\n\nun\ndeux"


def test_a_document_s_record_keeps_its_text() -> None:
    assert document_record(Document("a", "un\x1b"))["text"] == "un\x1b"


def test_every_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Settings) -> list[doctor.Check]:
        raise DependencyMissing("no Java", where="/usr", hint="install one")

    def broken(_: Settings) -> list[doctor.Check]:
        raise RuntimeError("odd")

    monkeypatch.setattr(doctor, "_LOOKS", {"Java": missing, "odd": broken})
    found = doctor.examine(Settings())
    assert [(check.state, check.found, check.mend) for check in found] == [
        ("broken", "/usr: no Java", "install one"),
        ("broken", "RuntimeError: odd", "install fouille again"),
    ]
    assert doctor.render(found, PLAIN) == (
        "✗ Java  /usr: no Java\n        → install one\n✗ odd   RuntimeError: odd\n        → install fouille again"
    )
    assert doctor.checks_record(found)["works"] is False


def test_the_doctor_goes_on_where_a_setting_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUILLE_K", "abc")
    found = doctor.examine()
    assert [(check.state, check.found) for check in found if check.name == "settings"] == [
        ("broken", "FOUILLE_K: 'abc' is not a whole number from 1 up")
    ]
    assert {check.name for check in found} > {"Python", "Java", "config file"}


def test_the_doctor_names_variables_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUILLE_RERNKER", "x")
    monkeypatch.setenv("FOUILLE_K", "3")
    (told,) = [check for check in doctor.examine(Settings()) if check.name == "environment"]
    assert (told.state, told.found, told.mend) == (
        "note",
        "FOUILLE_RERNKER is not read",
        "did you mean FOUILLE_RERANKER?",
    )


def test_the_doctor_finds_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOUILLE_DATA_DIR", str(tmp_path / "file" / "data"))
    checks = {check.name: check for check in doctor._folders(Settings())}
    assert checks["data folder"].state == "broken"
    assert "FOUILLE_DATA_DIR" in str(checks["data folder"].mend)


@pytest.mark.parametrize(
    ("installed", "state"), [([], "broken"), (["faiss-cpu", "faiss-gpu-cu12"], "broken"), (["faiss-cpu"], "works")]
)
def test_the_doctor_wants_one_faiss(monkeypatch: pytest.MonkeyPatch, installed: list[str], state: str) -> None:
    pytest.importorskip("faiss")

    class Distribution:
        def __init__(self, name: str) -> None:
            self.name = name

    monkeypatch.setattr(doctor, "distributions", lambda: [Distribution(name) for name in [*installed, "numpy"]])
    assert [check.state for check in doctor._faiss(Settings())] == [state]


def test_known_models_say_where_they_lie_and_what_for(tmp_path: Path) -> None:
    (tmp_path / "mien").mkdir()
    found = known_models.models_record(resolve({"reranker": str(tmp_path / "mien")}))
    shown = known_models.render(found, PLAIN)
    assert json.loads(to_json(found))[-1]["folder"] == str(tmp_path / "mien")
    assert f"✓ {tmp_path / 'mien'} (default)" in shown
    assert "not on this machine" in shown


@pytest.mark.parametrize("width", [60, 80])
def test_known_models_fit_the_terminal_between_words(width: int) -> None:
    shown = known_models.render(known_models.models_record(resolve()), Style(width=width)).split("\n")
    assert max(len(line) for line in shown if "/" not in line) <= width


def test_without_a_terminal_no_progress_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress() as report:
        assert report is None


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stderr as a terminal; not a fixture, as pytest takes stderr back before the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    return stream


def last_bars(terminal: Terminal, *, of: int) -> list[str]:
    """The bars as they were drawn last, without colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").strip().split("\n")[-of:]


def test_a_terminal_shows_parts_counts_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress() as report:
        assert report is not None
        report("reading", 7, None)
        report("encoding", 10, 40)
    assert "7 documents" in terminal.getvalue()
    assert "10 of 40 passages" in terminal.getvalue()


def test_a_bar_that_is_full_shows_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress() as report:
        assert report is not None
        report("bm25", 5, 40)
        report("bm25", 40, 40)
    (bar,) = last_bars(terminal, of=1)
    assert re.fullmatch(r"✓ bm25 \S+ 40 of 40 passages +(\S+/s)? +0:00:0\d", bar.strip())


def test_while_every_bar_is_full_the_next_part_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress({"encoding": "loading the model", "finishing": "writing"}) as report:
        assert report is not None
        report("bm25", 5, 10)
        assert "loading the model" not in terminal.getvalue()
        report("bm25", 10, 10)
        time.sleep(0.3)  # bars are drawn ten times a second
        assert "loading the model" in terminal.getvalue()
        report("encoding", 10, 10)
        time.sleep(0.3)
        assert "writing" in terminal.getvalue()
    assert [bar.split()[1] for bar in last_bars(terminal, of=2)] == ["bm25", "encoding"]


def test_encoding_completes_what_had_expected_more(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress({"encoding": "loading the model"}) as report:
        assert report is not None
        report("reading", 103, 104)
        report("encoding", 0, 10)
        report("encoding", 10, 10)
    assert "✓ reading" in terminal.getvalue()
    assert "103 documents" in last_bars(terminal, of=2)[0]


def test_bold_headers_only_in_colour() -> None:
    assert columns([("a", 1)], Style(colour=True), header=("x", "y")).startswith("\x1b[1m")

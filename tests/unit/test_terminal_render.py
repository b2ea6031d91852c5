"""Hits as a person sees them."""

import io
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from engine.records import Hit, SearchResult
from engine.terminal.render import EXCERPT_LINES, explain_hit, fold, passage, place, render, timing
from engine.terminal.style import PLAIN, Style, cell_width

COLOUR = Style(colour=True, links=True, width=60)
TEXT = "Les chevaux de trait tirent la charrue."
HIT = Hit(
    key="ferme/cheval.txt",
    passage_id=1,
    text=TEXT,
    title="Le cheval",
    start=0,
    end=len(TEXT),
    page=None,
    line=3,
    metadata={},
    rank=1,
    score=0.98765,
    highlights=((4, 11),),
    bm25_rank=2,
    bm25_score=7.25,
)
RESULT = SearchResult(question="cheval", hits=(HIT,), candidates=1)


def long_hit(lit_word: int) -> Hit:
    words = [f"mot{number:03}" for number in range(200)]
    text = " ".join(words)
    start = text.index(words[lit_word])
    return replace(HIT, text=text, highlights=((start, start + 6),))


def test_a_hit_shows_rank_score_title_source_line_and_passage() -> None:
    assert render(RESULT, PLAIN) == (
        " 1  0.9877  Le cheval\n    ferme/cheval.txt l. 3\n    Les chevaux de trait tirent la charrue."
    )


def test_a_page_is_named_before_a_line() -> None:
    for last, shown in ((None, "p. 12\n"), (12, "p. 12\n"), (14, "p. 12–14\n")):
        hit = replace(HIT, page=12, last_page=last)
        assert f"ferme/cheval.txt {shown}" in render(replace(RESULT, hits=(hit,)), PLAIN)


def test_a_document_without_title_goes_by_its_key() -> None:
    shown = render(replace(RESULT, hits=(replace(HIT, title=""),)), PLAIN)
    assert shown.startswith(f" 1  0.9877  {' '.join(filter(None, (HIT.key, place(HIT))))}\n")
    assert shown.count(HIT.key) == 1


def test_a_long_title_and_a_long_key_are_folded() -> None:
    long = replace(HIT, title="Décret relatif aux titres " * 3, key="dossier de textes/" * 4)
    lines = render(replace(RESULT, hits=(long,)), replace(PLAIN, width=40)).split("\n")
    assert max(map(len, lines)) <= 40
    assert lines[0] == " 1  0.9877  Décret relatif aux titres"
    assert lines[1] == " " * 12 + "Décret relatif aux titres"


def test_a_title_with_no_break_spaces_is_not_said_again() -> None:
    text = "# Que faire\u202f? Un guide\nIl faut attendre."
    shown = passage(replace(HIT, title="Que faire ? Un guide", text=text, highlights=()), PLAIN)
    assert shown == ["Il faut attendre."]


def test_the_question_s_words_are_lit() -> None:
    assert "Les \x1b[1;33mchevaux\x1b[0m de trait" in render(RESULT, COLOUR)


def test_no_colour_means_no_escape_character() -> None:
    assert "\x1b" not in render(RESULT, PLAIN, explained=True)


def test_a_key_a_title_and_a_text_cannot_write_to_the_terminal() -> None:
    evil = "\x1b]52;c;QQ==\x07\x1b[2J\u202etxt"
    hit = replace(HIT, key=evil, title=evil, text=evil, highlights=())
    shown = render(replace(RESULT, hits=(hit,), reranker=evil), PLAIN, explained=True)
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}


def test_a_web_address_becomes_a_link() -> None:
    hit = replace(HIT, metadata={"url": "https://exemple.fr/a"})
    assert "\x1b]8;;https://exemple.fr/a\x1b\\" in render(replace(RESULT, hits=(hit,)), COLOUR)


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://a\x1b\\b", "https://a b", 7])
def test_anything_else_becomes_no_link(address: object) -> None:
    hit = replace(HIT, metadata={"url": address})
    assert "\x1b]8;;" not in render(replace(RESULT, hits=(hit,)), COLOUR)


def test_a_long_passage_is_cut_to_where_most_is_lit() -> None:
    lines = passage(long_hit(150), COLOUR)
    assert len(lines) == EXCERPT_LINES
    assert "\x1b[1;33mmot150\x1b[0m" in "".join(lines)
    assert lines[0].startswith("… ")
    assert lines[-1].endswith(" …")


def test_a_long_passage_with_nothing_lit_shows_its_beginning() -> None:
    lines = passage(replace(long_hit(0), highlights=()), PLAIN)
    assert lines[0].startswith("mot000")


def test_the_full_passage_keeps_its_line_breaks() -> None:
    hit = replace(HIT, text="un\ndeux\n\ntrois", highlights=())
    assert passage(hit, PLAIN, full=True) == ["un", "deux", "trois"]


def test_an_excerpt_flows_over_line_breaks() -> None:
    assert passage(replace(HIT, text="un\ndeux", highlights=()), PLAIN) == ["un deux"]


def test_an_excerpt_keeps_the_breaks_that_say_something() -> None:
    text = "# Le pain\nUne pâte\nqui lève.\n\n## Il faut\n- de la farine,\n  bise ou non\n- de l'eau"
    text += "\n1. Pétrir - bien.\n2. Cuire."
    assert passage(replace(HIT, text=text, highlights=()), PLAIN) == [
        "# Le pain",
        "Une pâte qui lève.",
        "## Il faut",
        "- de la farine, bise ou non",
        "- de l'eau",
        "1. Pétrir - bien. …",
    ]


@pytest.mark.parametrize("first", ["Le cheval", "# Le cheval"])
def test_an_excerpt_does_not_say_the_title_again(first: str) -> None:
    hit = replace(HIT, text=f"{first}\n\nIl tire la charrue.", highlights=())
    assert passage(hit, PLAIN) == ["Il tire la charrue."]
    assert passage(hit, PLAIN, full=True) == [first, "Il tire la charrue."]
    assert passage(replace(hit, text=first), PLAIN) == [first]
    assert passage(replace(hit, title="Le poney"), PLAIN) == [first, "Il tire la charrue."]


def test_a_no_break_space_does_not_break_a_line() -> None:
    text = "mot " * 4 + "«\u00a0titre\u00a0»"
    assert passage(replace(HIT, text=text, highlights=()), Style(width=28))[-1] == "«\u00a0titre\u00a0»"


def test_a_word_longer_than_the_line_is_cut() -> None:
    lines = passage(replace(HIT, text="x" * 50, highlights=()), Style(width=26))
    assert [len(line) for line in lines] == [20, 20, 10]


def test_explain_shows_each_side() -> None:
    hit = replace(HIT, dense_score=0.5, fused_score=0.75)
    assert explain_hit(hit) == "bm25 7.2500 (#2) · dense 0.5000 (not in its candidates) · fused 0.7500"


def test_explain_shows_both_parts_of_an_interpolated_score() -> None:
    hit = replace(HIT, score=2.5, rerank_logit=2.0, rerank_score=0.88, first_stage_z=1.0, bm25_rank=1)
    assert explain_hit(hit).endswith(
        "rerank logit 2.0000, sigmoid 0.8800 · first stage z 1.0000 · score = logit 2.0000 +0.5000 from the first stage"
    )


def test_explain_says_how_the_search_went() -> None:
    result = replace(RESULT, candidates=100, reranker="mini", precision="fp32", truncated=4)
    assert render(result, PLAIN, explained=True).startswith("bm25 → 100 candidates → mini → fp32 → 4 truncated\n")


def test_explain_says_what_was_scored_again_after_a_draft() -> None:
    result = replace(
        RESULT, candidates=100, reranker="mini", precision="fp32", draft_precision="bf16", rescored=13, truncated=4
    )
    assert render(result, PLAIN, explained=True).startswith(
        "bm25 → 100 candidates → mini → bf16 draft, 13 of 100 again in fp32 → 4 truncated\n"
    )


def test_timing_ends_with_the_total() -> None:
    assert timing({"total": 0.25, "first_stage": 0.0125}) == "first stage 12.5 ms · total 250.0 ms"


def test_a_timing_breaks_between_its_parts() -> None:
    assert timing({"first_stage": 0.0125, "total": 0.25}, 22) == "first stage 12.5 ms ·\ntotal 250.0 ms"


@pytest.mark.parametrize(("text", "cells"), [("été", 3), ("e\u0301", 1), ("漢字", 4), ("l’œuvre…", 8), ("😀", 2)])
def test_width_is_counted_in_cells(text: str, cells: int) -> None:
    assert cell_width(text) == cells


def test_what_is_no_terminal_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(
        "os.get_terminal_size", lambda descriptor: os.terminal_size((50, 24)) if descriptor == 2 else 1 / 0
    )
    stderr = SimpleNamespace(fileno=lambda: 2, isatty=lambda: True)
    assert (Style.of(stderr).width, Style.of(io.StringIO()).width) == (50, 100)
    monkeypatch.setenv("COLUMNS", "70")
    assert Style.of(stderr).width == 70


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colour_and_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert (Style.of(Terminal()).colour, Style.of(Terminal()).links) == (True, True)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Style.of(Terminal()).colour


def test_a_dumb_terminal_and_a_pipe_get_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not Style.of(Terminal()).colour
    assert not Style.of(io.StringIO()).links


def test_what_is_lit_across_words_and_lines_is_shown_once() -> None:
    hit = replace(HIT, title="", highlights=((4, 20), (31, 39)))
    plain = "\n".join(passage(hit, PLAIN))
    for width in (60, 24):
        lit = "\n".join(passage(hit, replace(COLOUR, width=width)))
        without = re.sub(r"\x1b\[[0-9;]*m", "", lit)
        assert without.split() == plain.split()
        painted = re.findall(r"\x1b\[[0-9;]+m([^\x1b]*)\x1b\[0?m", lit)
        assert "".join(painted) == "chevauxdetraitcharrue."[: len("".join(painted))]
        assert "chevaux" in painted


def test_what_is_set_in_stays_so_when_it_is_folded_and_fits() -> None:
    assert fold("  un deux", 8) == ["  un", "  deux"]
    assert fold(" " * 9 + "un deux", 10) == ["un deux"]


def test_an_empty_line_stays_when_it_is_folded() -> None:
    assert fold("", 20) == [""]
    assert fold("  ", 20) == [""]


def test_an_explanation_is_as_wide_as_the_screen() -> None:
    hit = replace(HIT, rerank_logit=1.5, rerank_score=0.8, first_stage_z=0.25)
    lines = render(replace(RESULT, hits=(hit,)), replace(PLAIN, width=100), explained=True).split("\n")
    assert "    " + explain_hit(hit)[:60] in [line[:64] for line in lines]

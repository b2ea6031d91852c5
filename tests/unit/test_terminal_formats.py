"""The formats that programs read: these strings are a promise."""

import csv
import io
import json
from dataclasses import fields, replace

import pytest

from engine.errors import InvalidOption
from engine.records import Hit, SearchResult
from engine.terminal.formats import HIT_KEYS, as_csv, as_json, as_jsonl, as_trec, to_json

HIT = Hit(
    key="aide/calc.html",
    passage_id=7,
    text="Figer la première ligne.",
    title="Figer",
    start=10,
    end=34,
    page=None,
    line=12,
    metadata={"langue": "fr"},
    rank=1,
    score=0.75,
    highlights=((0, 5),),
    bm25_rank=2,
    bm25_score=11.5,
    rerank_logit=1.0986,
    rerank_score=0.75,
)
RESULT = SearchResult(
    question="comment figer ?",
    hits=(HIT,),
    timings={"bm25": 0.001, "total": 0.25},
    notices=("no vectors yet",),
    candidates=100,
    truncated=3,
    reranker="mini",
    precision="fp32",
    draft_precision="bf16",
    rescored=13,
)

GOLDEN_HIT = (
    '{"rank": 1, "score": 0.75, "key": "aide/calc.html", "title": "Figer", "page": null, "last_page": null, '
    '"line": 12, "text": "Figer la première ligne.", "highlights": [[0, 5]], "passage_id": 7, "start": 10, "end": 34, '
    '"metadata": {"langue": "fr"}, "bm25_rank": 2, "bm25_score": 11.5, "dense_rank": null, "dense_score": null, '
    '"fused_score": null, "first_stage_z": null, "rerank_logit": 1.0986, "rerank_score": 0.75, "truncated": false}'
)
GOLDEN_CSV = (
    "rank,score,key,title,page,last_page,line,text,passage_id,start,end,bm25_rank,bm25_score,dense_rank,dense_score,"
    "fused_score,first_stage_z,rerank_logit,rerank_score,truncated"
)


def test_a_line_of_jsonl_is_a_hit() -> None:
    assert as_jsonl(RESULT) == GOLDEN_HIT


def test_json_holds_the_search_and_its_hits() -> None:
    assert json.loads(as_json(RESULT)) == {
        "question": "comment figer ?",
        "first_stage": "bm25",
        "reranker": "mini",
        "precision": "fp32",
        "draft_precision": "bf16",
        "rescored": 13,
        "candidates": 100,
        "truncated": 3,
        "timings": {"bm25": 0.001, "total": 0.25},
        "notices": ["no vectors yet"],
        "hits": [json.loads(GOLDEN_HIT)],
    }


def test_json_has_the_same_keys_without_hits() -> None:
    assert json.loads(as_json(replace(RESULT, hits=()))).keys() == json.loads(as_json(RESULT)).keys()


def test_every_field_of_a_hit_is_told() -> None:
    assert set(HIT_KEYS) == {field.name for field in fields(Hit)}


def test_csv_has_a_header_and_a_row_for_each_hit() -> None:
    assert as_csv(RESULT) == (
        f"{GOLDEN_CSV}\n1,0.75,aide/calc.html,Figer,,,12,Figer la première ligne.,7,10,34,2,11.5,,,,,1.0986,0.75,False"
    )


def test_csv_has_its_header_without_hits() -> None:
    assert as_csv(replace(RESULT, hits=())) == GOLDEN_CSV


def test_csv_quotes_line_breaks_and_drops_escape_sequences() -> None:
    nasty = replace(RESULT, hits=(replace(HIT, text='un\n"deux", \x1b[31mtrois'),))
    assert next(csv.DictReader(io.StringIO(as_csv(nasty))))["text"] == 'un\n"deux", trois'


def test_trec_is_one_line_a_document_at_its_best_passage() -> None:
    hits = (HIT, replace(HIT, rank=2, score=0.5), replace(HIT, key="b", rank=3, score=0.25))
    assert as_trec(replace(RESULT, hits=hits), "q7") == ("q7 Q0 aide/calc.html 1 0.75 fouille\nq7 Q0 b 2 0.25 fouille")


def test_trec_holds_logits_where_sigmoids_would_tie() -> None:
    logits = (14.3, 14.2995)
    hits = tuple(
        replace(HIT, key=key, score=0.9999994, rerank_score=0.9999994, rerank_logit=logit)
        for key, logit in zip("ab", logits, strict=True)
    )
    lines = as_trec(replace(RESULT, hits=hits)).splitlines()
    assert [float(line.split()[4]) for line in lines] == list(logits)


@pytest.mark.parametrize("key", ["mon fichier.pdf", "a\u00a0b", "a\x1b[0mb", "a\ufeffb", "a\u202eb"])
def test_trec_refuses_a_key_it_cannot_carry(key: str) -> None:
    with pytest.raises(InvalidOption, match="TREC"):
        as_trec(replace(RESULT, hits=(replace(HIT, key=key),)))


@pytest.mark.parametrize("question_id", ["", "a b"])
def test_trec_refuses_a_question_id_it_cannot_carry(question_id: str) -> None:
    with pytest.raises(InvalidOption, match="--qid"):
        as_trec(RESULT, question_id)


def test_numbers_that_json_lacks_become_null() -> None:
    assert to_json({"a": float("nan"), "b": [float("inf")]}, indent=None) == '{"a": null, "b": [null]}'

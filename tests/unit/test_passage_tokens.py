"""Passages' tokens: read from the collection, then from the cache, else tokenised and kept."""

import numpy as np
import pytest

from engine import Collection, Document, SearchOptions
from engine.models import CrossEncoder
from engine.settings import cache_dir

TEXTS = ["Le cheval mange.", "Le chat dort sur le canapé.", "Un soleil", "La pluie tombe sur la maison et le jardin."]


@pytest.fixture
def made(tmp_path, tiny):
    """A collection indexed before its reranker was at hand."""
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add([Document(f"d{number}", text) for number, text in enumerate(TEXTS)])
        yield collection


@pytest.fixture
def reranker(tiny):
    return CrossEncoder(str(tiny.reranker), "cpu", "fp32")


def rows(ragged):
    return [
        ragged.values[start:end].tolist() for start, end in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)
    ]


def of(collection, ids, reranker, asked=None):
    def inputs(missing):
        if asked is not None:
            asked.extend(missing.tolist())
        return [TEXTS[id_ - 1] for id_ in missing.tolist()]

    return rows(collection._reader.tokens.of(np.asarray(ids, np.int64), reranker, inputs))


def test_tokens_are_those_of_the_tokenizer_in_the_order_asked(made, reranker):
    expected = rows(reranker.tokenize_passages(TEXTS))
    assert of(made, [3, 1], reranker) == [expected[2], expected[0]]
    assert of(made, [1, 2, 3, 4], reranker) == expected


def test_what_was_tokenised_once_is_not_tokenised_again(made, reranker):
    asked = []
    of(made, [1, 2], reranker, asked)
    of(made, [1, 2, 3], reranker, asked)
    assert asked == [1, 2, 3]


def test_a_damaged_cache_costs_time_and_not_the_answer(made, reranker):
    expected = of(made, [1, 2], reranker)
    for file in cache_dir().glob(f"tokens/{made.memory['uuid']}/*/*.segment"):
        file.write_bytes(b"x" * 100)
    made._reader.tokens._stores.clear()
    assert of(made, [1, 2], reranker) == expected


def test_indexing_with_the_reranker_at_hand_keeps_the_tokens_in_the_collection(tmp_path, tiny, reranker):
    with Collection.create(tmp_path / "c", first_stage="bm25", reranker=str(tiny.reranker)) as collection:
        collection.add([Document(f"d{number}", text) for number, text in enumerate(TEXTS)])
        collection.delete(["d0"])
        asked = []
        of(collection, [2, 3, 4], reranker, asked)
        assert asked == []
        assert collection.verify()["state"] == "sound"


def test_a_search_writes_nothing_to_the_collection(made, tiny):
    made.search("chat", SearchOptions(rerank=False))
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*") if path.suffix != ".sqlite-shm"}
    made.search("chat", SearchOptions(reranker=str(tiny.reranker)))
    after = {path: path.stat().st_mtime_ns for path in made.path.rglob("*") if path.suffix != ".sqlite-shm"}
    assert before == after

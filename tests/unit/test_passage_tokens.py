"""Passages' tokens: read from the collection, then from the cache, else tokenised and kept."""

import shutil

import numpy as np
import pytest

from engine import Collection, Document, SearchOptions
from engine.errors import StorageError
from engine.models import CrossEncoder
from engine.settings import cache_dir
from indexes.segments import SegmentStore

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


def test_what_was_tokenised_once_is_not_tokenised_again(made, reranker, monkeypatch):
    asked, tokenize = [], reranker.tokenize_passages
    monkeypatch.setattr(reranker, "tokenize_passages", lambda texts: asked.extend(texts) or tokenize(texts))
    of(made, [1, 2], reranker)
    of(made, [1, 2, 3], reranker)
    assert asked == TEXTS[:3]


def test_a_copy_that_went_another_way_has_tokens_of_its_own(made, tiny, reranker, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made.path, copy)
    made.add([Document("d4", "Le chien aboie.")])
    here = made.search("chien", SearchOptions(reranker=str(tiny.reranker), interpolate=0.0)).hits[0]
    with Collection.open(copy) as other:
        other.add([Document("d4", "Un chien de la pluie et du jardin dort."), Document("d5", "Le chien aboie.")])
        found = other.search("chien", SearchOptions(reranker=str(tiny.reranker), interpolate=0.0)).hits
    logits = {hit.key: hit.rerank_logit for hit in found}
    assert logits["d5"] == pytest.approx(here.rerank_logit, abs=1e-5)
    assert logits["d4"] != pytest.approx(here.rerank_logit, abs=1e-3)


def test_passages_that_say_the_same_are_kept_once(made, reranker):
    made.add([Document("d4", TEXTS[0])])
    same = lambda missing: [TEXTS[0]] * len(missing)  # noqa: E731
    found = made._reader.tokens.of(np.array([1, 5], np.int64), reranker, same)
    assert rows(found)[0] == rows(found)[1]
    assert rows(made._reader.tokens.of(np.array([5], np.int64), reranker, same)) == rows(found)[:1]


def test_a_damaged_cache_costs_time_and_not_the_answer(made, reranker):
    expected = of(made, [1, 2], reranker)
    for file in cache_dir().glob(f"passages/{made.memory['uuid']}/*/*.segment"):
        file.write_bytes(b"x" * 100)
    made._reader.tokens._stores.clear()
    assert of(made, [1, 2], reranker) == expected


def test_a_cache_that_cannot_be_read_for_the_moment_is_kept(made, reranker, monkeypatch):
    expected = of(made, [1, 2], reranker)
    kept = sorted(cache_dir().glob(f"passages/{made.memory['uuid']}/*/*.segment"))
    with monkeypatch.context() as few_files:
        few_files.setattr(SegmentStore, "ragged", lambda *_: (_ for _ in ()).throw(StorageError("too many open files")))
        assert of(made, [1, 2], reranker) == expected
    assert sorted(cache_dir().glob(f"passages/{made.memory['uuid']}/*/*.segment")) == kept != []


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


def test_a_cache_that_is_taken_away_or_altered_costs_time_and_not_the_answer(made, tiny):
    options = SearchOptions(reranker=str(tiny.reranker))
    expected = made.search("chat", options).hits
    shutil.rmtree(cache_dir() / "passages")
    assert made.search("chat", options).hits == expected
    for file in cache_dir().glob(f"passages/{made.memory['uuid']}/*/*.segment"):
        file.write_bytes(bytes(file.stat().st_size))
    with Collection.open(made.path, shelf=made.shelf) as again:
        assert again.search("chat", options).hits == expected
        assert again.search("chat", options).hits == expected

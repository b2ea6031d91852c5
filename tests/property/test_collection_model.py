"""A collection against a dictionary: whatever is added, changed and removed, a search sees exactly what is there."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Collection, Document, SearchOptions
from engine.documents.text import normalise
from engine.errors import InvalidQuestion

KEYS = st.sampled_from("abcdefgh")
WORDS = st.lists(st.sampled_from(["chat", "lion", "loup", "ours"]), min_size=1, max_size=4).map(" ".join)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(KEYS, WORDS, max_size=5)),
    st.tuples(st.just("delete"), st.sets(KEYS, max_size=3)),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=8))
def test_a_search_sees_exactly_what_was_added_and_not_removed(steps):
    model = {}
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection.create(Path(folder, "c"), first_stage="bm25")
        for step, what in steps:
            if step == "add":
                report = collection.add(Document(key, text) for key, text in what.items())
                assert report.added == len(set(what) - set(model))
                assert report.unchanged == sum(model.get(key) == text for key, text in what.items())
                model |= what
            elif step == "delete":
                assert collection.delete(what) == len(what & set(model))
                model = {key: text for key, text in model.items() if key not in what}
            else:
                collection.close()
                collection = Collection.open(Path(folder, "c"))
        hits = collection.search("chat lion loup ours", SearchOptions(k=100, rerank=False)).hits
        assert {hit.key: hit.text for hit in hits} == model
        assert len(hits) == len(model)
        assert collection.verify()["state"] == "sound"
        collection.close()


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    with Collection.create(tmp_path_factory.mktemp("animals") / "c", first_stage="bm25") as collection:
        collection.add([Document("chat", "Le chat dort."), Document("lion", "Le lion, lui, chasse : 12 °C ?")])
        yield collection


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.text(st.characters(codec=None), max_size=20))
def test_any_string_is_a_question_or_is_refused_as_empty(animals, question):
    try:
        hits = animals.search(question, SearchOptions(rerank=False)).hits
    except InvalidQuestion:
        assert not normalise(question).replace("\0", " ").strip()
    else:
        assert all(hit.text[start:end] for hit in hits for start, end in hit.highlights)

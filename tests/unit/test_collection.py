"""A collection from outside: what is added is found, what is removed is not, and what it says of itself is true."""

import copy
import io
import json
import pickle
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from unicodedata import normalize

import numpy as np
import pytest

from engine import Collection, Document, SearchOptions, generation
from engine.catalog import Catalog
from engine.collection import list_collections
from engine.documents import open_source
from engine.errors import (
    CollectionBusy,
    CollectionDamaged,
    CollectionError,
    CollectionNotFound,
    CollectionOutdated,
    DocumentError,
    InvalidOption,
    InvalidQuestion,
    ModelNotFound,
    SourceNotFound,
)
from engine.locking import locked
from engine.reader import token_cache
from engine.search import plan
from engine.settings import Settings
from indexes.segments import SegmentStore

FIRST = SearchOptions(rerank=False)


def keys(result):
    return [hit.key for hit in result.hits]


@pytest.fixture
def collection(tmp_path):
    with Collection.create(tmp_path / "collection", first_stage="bm25") as collection:
        yield collection


@pytest.fixture
def hybrid(tmp_path, tiny):
    options = {"first_stage": "hybrid", "encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
    with Collection.create(tmp_path / "hybrid", **options, settings=Settings(precision="fp32")) as collection:
        yield collection


ANIMALS = [
    Document("cheval", "Le cheval mange de l'herbe.", "Équidés"),
    Document("chat", "Le chat dort sur le canapé.", metadata={"genre": "félin"}),
    Document("lion", "Le lion dort dans la savane.", metadata={"genre": "félin"}),
]


def test_a_document_is_found_by_another_form_of_its_words(collection):
    collection.add(ANIMALS)
    assert keys(collection.search("chevaux", FIRST)) == ["cheval"]


def test_the_title_is_searched_with_the_text(collection):
    collection.add(ANIMALS)
    assert keys(collection.search("équidé", FIRST)) == ["cheval"]


def test_adding_again_counts_what_is_unchanged_and_replaces_what_changed(collection):
    collection.add(ANIMALS)
    report = collection.add([*ANIMALS[:2], Document("lion", "Le lion rugit.")])
    assert (report.added, report.updated, report.unchanged, report.passages) == (0, 1, 2, 3)
    assert keys(collection.search("dormir dort", FIRST)) == ["chat"]
    assert keys(collection.search("rugit", FIRST)) == ["lion"]


def test_a_change_of_title_alone_is_a_change(collection):
    collection.add(ANIMALS)
    assert collection.add([Document("chat", ANIMALS[1].text, "Titre", ANIMALS[1].metadata)]).updated == 1


def test_a_deleted_document_is_not_found_until_it_comes_again(collection):
    collection.add(ANIMALS)
    assert collection.delete(["lion", "absent"]) == 1
    assert keys(collection.search("dort", FIRST)) == ["chat"]
    collection.add(ANIMALS)
    assert sorted(keys(collection.search("dort", FIRST))) == ["chat", "lion"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (Document("", "texte"), "no key"),
        (Document("x", "  \n "), "empty"),
        (Document("x", "a\0b"), "NUL"),
        (Document("x", "a\ud800b"), "surrogate"),
        (Document("x", "texte", metadata={"n": float("nan")}), "JSON"),
        (Document("x", "texte", metadata={"n": object()}), "JSON"),
        (Document("x", "texte", metadata={1: "un", "deux": 2}), "JSON"),
        (Document("x", "texte", metadata={"n": "a\ud800"}), "JSON"),
        (Document(1, "texte"), "key is not text"),
        (Document("x", None), "text is not text"),
        (Document("x", "texte", None), "title is not text"),
        (Document("chat", "un second"), "second document"),
    ],
)
def test_what_cannot_be_indexed_is_rejected_counted_and_explained(collection, document, reason):
    report = collection.add([*ANIMALS, document])
    assert (report.added, report.rejected) == (3, 1)
    assert reason in str(report.rejections[0])


def test_strict_stops_at_the_first_rejection_and_writes_nothing(collection):
    with pytest.raises(DocumentError, match="empty"):
        collection.add([*ANIMALS, Document("x", "")], strict=True)
    assert collection.keys() == []


@pytest.mark.parametrize("question", ["", " \n\t", "\0"])
def test_an_empty_question_is_refused(collection, question):
    with pytest.raises(InvalidQuestion):
        collection.search(question, FIRST)


@pytest.mark.parametrize(
    "question", ['"', "a AND (b", "title:x^3 ~*?", "😀", "مرحبا", "l'", "\ud800", "x" * 50_000, "\0"]
)
def test_any_other_question_is_answered(collection, question):
    collection.add(ANIMALS)
    if question == "\0":
        with pytest.raises(InvalidQuestion):
            collection.search(question, FIRST)
    else:
        assert collection.search(question, FIRST).hits == ()


def test_a_search_in_an_empty_collection_finds_nothing(collection):
    assert collection.search("chat", FIRST).hits == ()


def test_filters_rank_as_if_the_rest_were_not_there(collection):
    collection.add(ANIMALS)
    assert sorted(keys(collection.search("dort cheval", SearchOptions(rerank=False, where={"genre": "félin"})))) == [
        "chat",
        "lion",
    ]
    assert keys(collection.search("dort", SearchOptions(rerank=False, keys="l*"))) == ["lion"]
    assert keys(collection.search("dort", SearchOptions(rerank=False, keys="l*", where={"genre": "x"}))) == []


def test_of_several_values_under_one_name_all_must_be_there(collection):
    both, one = ({"genre": genres} for genres in (["félin", "rare"], ["félin"]))
    collection.add(
        [Document("tigre", "Le tigre dort.", metadata=both), Document("chat", "Le chat dort.", metadata=one)]
    )
    assert len(collection.search("dort", SearchOptions(where={"genre": "félin"}, rerank=False)).hits) == 2
    found = collection.search("dort", SearchOptions(where={"genre": ("félin", "rare")}, rerank=False))
    assert keys(found) == ["tigre"]


@pytest.mark.parametrize(
    "options",
    [
        {"first_stage": "foo"},
        {"long_passages": "foo"},
        {"interpolate": float("nan")},
        {"k": 2.5},
        {"k": True},
        {"keys": []},
        {"where": {"year": 2020}},
        {"where": {"year": (2020,)}},
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(collection, options):
    collection.add(ANIMALS)
    with pytest.raises(InvalidOption):
        collection.search("dort", SearchOptions(**options))


def test_one_text_in_place_of_several_is_refused(collection):
    collection.add([Document("a", "chat"), Document("b", "chat")])
    with pytest.raises(InvalidOption):
        collection.delete("ab")
    with pytest.raises(InvalidOption):
        list(collection.search_many("chat"))
    assert collection.keys() == ["a", "b"]


def test_a_closed_collection_says_so(tmp_path):
    collection = Collection.create(tmp_path / "c", first_stage="bm25")
    collection.close()
    with pytest.raises(CollectionError, match="closed") as caught:
        collection.search("chat")
    assert not isinstance(caught.value, CollectionDamaged)


def test_a_soft_hyphen_hides_no_word_of_a_question(collection):
    collection.add(ANIMALS)
    assert keys(collection.search("ca\u00adnapé", FIRST)) == ["chat"]


def test_a_lost_pointer_is_damage_that_a_rebuild_mends(collection, tmp_path):
    collection.add(ANIMALS)
    collection.remember(k1=0.9, b=0.4)
    (collection.path / "CURRENT").unlink()
    with pytest.raises(CollectionDamaged, match=r"CURRENT is gone .*--rebuild"):
        Collection.open(collection.path)
    report = Collection.rebuild(collection.path)
    assert report.notices == []
    with Collection.open(collection.path) as mended:
        assert mended.keys() == ["chat", "cheval", "lion"]
        assert (mended.memory["k1"], mended.memory["b"]) == (0.9, 0.4)


def test_per_document_gives_way_to_other_documents_until_there_are_k(tmp_path):
    crowd = Document("foule", "\n\n".join(f"Le loup numéro {number} hurle." for number in range(60)))
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:5:0") as collection:
        collection.add([crowd, *(Document(f"loup{number}", f"Un loup, et {'mot ' * 30}.") for number in range(3))])
        found = collection.search("loup", SearchOptions(k=4, candidates=5, rerank=False, per_document=1))
        assert sorted(keys(found)) == ["foule", "loup0", "loup1", "loup2"]


def test_a_second_writer_is_told_at_once(collection):
    with locked(collection.path), pytest.raises(CollectionBusy):
        collection.add(ANIMALS)


def test_a_reader_sees_what_another_collection_object_wrote(collection):
    with Collection.open(collection.path) as reader:
        assert reader.search("chat", FIRST).hits == ()
        collection.add(ANIMALS)
        assert keys(reader.search("chat", FIRST)) == ["chat"]


def test_k_hits_are_given_even_when_fewer_candidates_are_asked_for(hybrid):
    hybrid.add([Document(f"d{number}", f"Le chat numéro {number} dort.") for number in range(8)])
    assert len(hybrid.search("chat", SearchOptions(k=6, candidates=2)).hits) == 6


def test_a_hybrid_search_says_where_each_hit_came_from(hybrid):
    hybrid.add(ANIMALS)
    hit = next(hit for hit in hybrid.search("le cheval", SearchOptions(k=3)).hits if hit.key == "cheval")
    assert (hit.bm25_rank, hit.dense_rank is not None, hit.fused_score is not None) == (1, True, True)
    assert hit.rerank_score == pytest.approx(1 / (1 + np.exp(-hit.rerank_logit)), abs=1e-6)
    assert hit.score == hit.rerank_score


def test_hits_are_ordered_by_logit_plus_w_times_the_standardised_first_stage(hybrid):
    hybrid.add(ANIMALS)
    hits = hybrid.search("le chat dort", SearchOptions(k=3, interpolate=2.0)).hits
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(hit.rerank_logit + 2 * hit.first_stage_z, abs=1e-5)


def test_a_passage_that_only_bm25_found_still_has_its_exact_dense_score(hybrid):
    hybrid.add([Document(f"d{number}", f"Le chat numéro {number} dort.") for number in range(30)])
    hits = hybrid.search("chat 29", SearchOptions(k=30, candidates=30, rerank=False)).hits
    assert all(hit.dense_score is not None for hit in hits)


def test_many_questions_get_the_answers_that_each_gets_alone(hybrid):
    hybrid.add(ANIMALS)
    questions = ["le chat", "cheval", "savane"]
    together = list(hybrid.search_many(questions, SearchOptions(k=3)))
    alone = [hybrid.search(question, SearchOptions(k=3)) for question in questions]
    assert [keys(one) for one in together] == [keys(one) for one in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose([h.score for h in one.hits], [h.score for h in other.hits], atol=1e-5)


def test_without_a_reranker_at_hand_the_first_stage_answers_and_says_so(collection):
    collection.add(ANIMALS)
    result = collection.search("chat")
    assert (keys(result), result.reranker, len(result.notices)) == (["chat"], None, 1)


def test_a_reranker_asked_for_by_name_and_not_to_be_had_is_an_error(collection):
    collection.add(ANIMALS)
    with pytest.raises(ModelNotFound):
        collection.search("chat", SearchOptions(reranker="personne/rien"))


def test_a_bm25_collection_looks_for_no_encoder(collection, monkeypatch):
    monkeypatch.setattr("engine.models.shelf.Shelf.encoder", None)
    collection.add(ANIMALS)
    assert keys(collection.search("chat", FIRST)) == ["chat"]


def test_asking_a_bm25_collection_for_vectors_is_an_error(collection):
    collection.add(ANIMALS)
    with pytest.raises(InvalidOption, match="no dense index"):
        collection.search("chat", SearchOptions(first_stage="dense", rerank=False))


def test_a_changed_encoder_is_refused_not_mixed_in(hybrid):
    hybrid.add(ANIMALS)
    hybrid._reader.memory["encoder_hash"] = "0" * 32
    with pytest.raises(CollectionOutdated, match="encoder"):
        plan(hybrid._reader, FIRST)


def test_widening_to_hybrid_encodes_what_was_there(collection, tiny):
    collection.add(ANIMALS)
    collection.widen("hybrid", str(tiny.encoder))
    assert "not encoded" in collection.search("chat", FIRST).notices[0]
    collection.add([])
    result = collection.search("chat", FIRST)
    assert (result.first_stage, result.notices, len(result.hits)) == ("hybrid", (), 3)


def test_widening_that_is_killed_halfway_leaves_what_can_be_searched_and_widened(collection, tiny, monkeypatch):
    collection.add(ANIMALS)
    with monkeypatch.context() as killed:
        killed.setattr(Catalog, "remember", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collection.widen("hybrid", str(tiny.encoder))
    assert keys(collection.search("savane", FIRST)) == ["lion"]
    collection.widen("hybrid", str(tiny.encoder))
    collection.add([])
    assert (collection.verify()["state"], collection.search("chat", FIRST).first_stage) == ("sound", "hybrid")


def test_another_reranker_and_the_first_again_leave_sound_tokens(hybrid):
    hybrid.add(ANIMALS)
    first = hybrid.memory["reranker"]
    hybrid.remember(reranker="nobody/nothing")
    hybrid.delete(["cheval"])
    hybrid.add([replace(ANIMALS[1], text="Le chat ronronne."), Document("âne", "L'âne brait.")])
    assert (hybrid.verify()["state"], hybrid.verify()["problems"]) == ("sound", [])
    hybrid.remember(reranker=first)
    hybrid.add([Document("coq", "Le coq chante.")])
    assert (hybrid.verify()["state"], hybrid.verify()["problems"]) == ("sound", [])
    (store,) = (hybrid._generation / "tokens").iterdir()
    assert (
        SegmentStore(store).ids().tolist() == hybrid._reader.catalog.visible(hybrid._reader.catalog.sequence).tolist()
    )
    assert sorted(keys(hybrid.search("chat"))) == ["chat", "coq", "lion", "âne"]


def test_a_folder_of_tokens_that_was_only_begun_is_no_damage(hybrid):
    hybrid.add(ANIMALS)
    (store,) = (hybrid._generation / "tokens").iterdir()
    shutil.rmtree(store)
    store.mkdir()
    with Collection.open(hybrid.path, settings=Settings(precision="fp32")) as again:
        assert len(again.search("chat").hits) == 3
        again.add([Document("coq", "Le coq chante.")])
        assert (again.verify()["state"], again.verify()["problems"]) == ("sound", [])


def test_a_reranker_that_cannot_be_run_does_not_stop_indexing(hybrid, tiny, tmp_path):
    broken = shutil.copytree(tiny.reranker, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    hybrid.remember(reranker=str(broken))
    report = hybrid.add(ANIMALS)
    assert any("tokens are left to the first search" in notice and "broken" in notice for notice in report.notices)
    assert hybrid._reader.catalog.in_step
    assert len(hybrid.search("chat", FIRST).hits) == 3


def test_a_faiss_index_whose_building_was_stopped_is_built_by_the_next_run(hybrid, monkeypatch):
    approximate = pytest.importorskip("indexes.approximate")
    pytest.importorskip("faiss")
    monkeypatch.setattr("indexes.approximate.FLAT_LIMIT", 50)
    documents = [Document(f"d{n}", f"Le chat numéro {n} dort.") for n in range(60)]
    with monkeypatch.context() as stopped:
        stopped.setattr(approximate, "_build", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hybrid.add(documents)
    assert hybrid.add(documents).unchanged == 60
    assert approximate.attached(SegmentStore(hybrid._generation / "dense")) is not None


def test_rebuilding_what_is_not_there_takes_no_name(tmp_path):
    with pytest.raises(CollectionNotFound):
        Collection.rebuild(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_key_that_is_no_text_is_one_line(collection):
    collection.add(ANIMALS)
    for asked in (lambda: collection.document("\udcff"), lambda: collection.keys("\udcff*")):
        with pytest.raises(InvalidOption, match="surrogate"):
            asked()


def test_dropping_an_index_takes_a_rebuild(hybrid):
    with pytest.raises(CollectionOutdated, match="rebuild"):
        hybrid.widen("bm25", None)


def test_rebuilding_carries_every_document_over(hybrid):
    hybrid.add(ANIMALS)
    before = {key: hybrid.document(key) for key in hybrid.keys()}
    Collection.rebuild(hybrid.path, first_stage="bm25", splitter="words:3:0")
    with Collection.open(hybrid.path) as after:
        assert {key: after.document(key) for key in after.keys()} == before
        assert (after.memory["first_stage"], after.memory["splitter"]) == ("bm25", "words:3:0")
    assert keys(hybrid.search("savane", FIRST)) == ["lion"]
    assert [path.name for path in hybrid.path.glob("g*")] == ["g2"]


def test_a_rebuild_takes_the_cached_tokens_of_the_old_generation_away(collection, tiny):
    collection.add(ANIMALS)
    assert collection.search("chat", SearchOptions(reranker=str(tiny.reranker))).hits
    cache = token_cache(collection.memory)
    assert list(cache.iterdir())
    Collection.rebuild(collection.path)
    assert not cache.exists()
    assert collection.search("chat", SearchOptions(reranker=str(tiny.reranker))).hits


def test_a_rebuild_that_fails_leaves_the_old_collection(hybrid, tmp_path):
    hybrid.add(ANIMALS)
    (tmp_path / "bad.jsonl").write_text("{}\n", "utf-8")
    with pytest.raises(DocumentError):
        Collection.rebuild(hybrid.path, [open_source(str(tmp_path / "bad.jsonl"))], strict=True)
    assert [path.name for path in hybrid.path.glob("g*")] == ["g1"]
    assert keys(hybrid.search("savane", SearchOptions(k=1, rerank=False, first_stage="bm25"))) == ["lion"]
    assert keys(hybrid.search("savane", SearchOptions(k=np.int64(1), rerank=False, first_stage="bm25"))) == ["lion"]


def test_a_damaged_catalog_is_rebuilt_from_the_sources(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Le chat dort.", "utf-8")
    source = open_source(str(tmp_path / "docs"))
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.update([source])
    (tmp_path / "c" / "g1" / "catalog.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(CollectionDamaged, match="--rebuild"):
        Collection.open(tmp_path / "c")
    report = Collection.rebuild(tmp_path / "c", [source], first_stage="bm25")
    assert "the catalog was damaged, and not all could be read" in report.notices[0]
    with Collection.open(tmp_path / "c") as collection:
        assert keys(collection.search("chat", FIRST)) == ["docs/a.txt"]


def test_pruning_removes_only_what_the_source_brought_and_no_longer_has(tmp_path, collection):
    folders = [tmp_path / name for name in ("un", "deux")]
    for folder in folders:
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.txt").write_text(f"Le texte {name} de {folder.name}.", "utf-8")
    sources = [open_source(str(folder)) for folder in folders]
    collection.add(ANIMALS)
    collection.update(sources)
    (folders[0] / "a.txt").unlink()
    assert collection.update(sources[:1]).removed == 0
    assert collection.update(sources[:1], prune=True).removed == 1
    assert collection.keys("un/*") == ["un/b.txt"]
    assert len(collection.keys()) == 6


def test_a_file_that_broke_is_not_pruned(tmp_path, collection):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Un texte.", "utf-8")
    (folder / "b.txt").write_text("Deux textes.", "utf-8")
    collection.update([open_source(str(folder))])
    (folder / "b.txt").write_bytes(b"\0\1\2" * 100)
    report = collection.update([open_source(str(folder))], prune=True)
    assert (report.rejected, report.removed, collection.keys()) == (1, 0, ["docs/a.txt", "docs/b.txt"])
    assert "what it said before stays" in report.rejections[0].reason


def test_a_file_that_was_emptied_is_pruned(tmp_path, collection):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Un texte.", "utf-8")
    (folder / "b.txt").write_text("Deux textes.", "utf-8")
    collection.update([open_source(str(folder))])
    (folder / "b.txt").write_text("", "utf-8")
    report = collection.update([open_source(str(folder))])
    assert "--prune removes it" in report.rejections[0].reason
    assert (report.removed, collection.keys()) == (0, ["docs/a.txt", "docs/b.txt"])
    report = collection.update([open_source(str(folder))], prune=True)
    assert (report.removed, report.rejected, collection.keys()) == (1, 1, ["docs/a.txt"])


def test_a_folder_that_was_emptied_is_pruned(tmp_path, collection):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Un texte.", "utf-8")
    first = open_source(str(folder))
    collection.update([first])
    (folder / "a.txt").unlink()
    with pytest.raises(SourceNotFound, match="empty folder"):
        open_source(str(folder))
    emptied = open_source(str(folder), emptied={first.location})
    assert any("--prune removes them" in notice for notice in collection.update([emptied]).notices)
    assert collection.update([emptied], prune=True).removed == 1
    assert collection.keys() == []


def test_a_glob_that_names_a_file_of_records_names_its_records(collection):
    collection.add([Document("a.csv#1", "Un."), Document("a.csv#2", "Deux."), Document("a.md", "Trois.")])
    assert collection.keys("*.csv") == collection.keys("a.csv") == ["a.csv#1", "a.csv#2"]
    assert collection.keys("*.md") == ["a.md"]


def test_after_a_write_the_catalog_is_one_file(collection, tmp_path):
    collection.add(ANIMALS)
    wal = next(collection.path.glob("g1/catalog.sqlite-wal"))
    assert wal.stat().st_size == 0
    copy = tmp_path / "catalog.sqlite"
    copy.write_bytes(wal.with_name("catalog.sqlite").read_bytes())
    with closing(Catalog.open(tmp_path)) as catalog:
        assert catalog.keys() == ["chat", "cheval", "lion"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE documents SET metadata = '{'",
        "UPDATE documents SET metadata = x'ff'",
        "UPDATE passages SET text = CAST(x'ff' AS TEXT)",
        "UPDATE documents SET key = CAST(x'ff' AS TEXT) WHERE key = 'chat'",
        "UPDATE memory SET value = '{'",
    ],
)
def test_a_catalog_whose_rows_make_no_sense_is_damaged(collection, damage):
    collection.add(ANIMALS)
    with closing(sqlite3.connect(collection.path / "g1" / "catalog.sqlite")) as connection, connection:
        connection.execute(damage)
    with pytest.raises(CollectionDamaged, match="--rebuild"):
        collection.search("dort", FIRST)


def test_nothing_of_a_broken_stream_of_records_is_pruned(tmp_path, collection):
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"_id": "x", "text": "un"}\n{"_id": "y", "text": "deux"}\n{"_id": "z", "text": "trois"}\n', "utf-8"
    )
    collection.update([open_source(str(file))])
    file.write_text('{"_id": "x", "text": "un"}\n{"_id": "y", "te\n', "utf-8")
    report = collection.update([open_source(str(file))], prune=True)
    assert (report.rejected, report.removed, collection.keys()) == (1, 0, ["x", "y", "z"])
    assert report.notices == ["a.jsonl: nothing was pruned, as part of it could not be read"]


def test_strict_reads_standard_input_once(collection, monkeypatch):
    for lines, added, removed in (('{"_id": "x", "text": "un"}', 1, 0), ('{"_id": "y", "text": "deux"}', 1, 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        report = collection.update([open_source("-")], prune=True, strict=True)
        assert (report.added, report.removed) == (added, removed)


def test_a_strict_run_that_fails_knows_no_new_source(tmp_path, collection):
    (tmp_path / "a.jsonl").write_text('{"_id": "x"}\n', "utf-8")
    with pytest.raises(DocumentError):
        collection.update([open_source(str(tmp_path / "a.jsonl"))], strict=True)
    assert collection.info()["sources"] == []


def test_strict_tells_two_new_sources_of_one_name_apart(tmp_path, collection):
    for parent in ("x", "y"):
        (tmp_path / parent / "docs").mkdir(parents=True)
        (tmp_path / parent / "docs" / "a.txt").write_text(f"Texte de {parent}.", "utf-8")
    collection.update([open_source(str(tmp_path / parent / "docs")) for parent in ("x", "y")], strict=True)
    assert collection.keys() == ["docs-2/a.txt", "docs/a.txt"]


def test_strict_refuses_a_new_source_what_came_through_the_api(tmp_path, collection):
    collection.add([Document("x", "Le chat dort.")])
    (tmp_path / "a.jsonl").write_text('{"_id": "w", "text": "un"}\n{"_id": "x", "text": "deux"}\n', "utf-8")
    with pytest.raises(DocumentError, match=r"another source, \(Python API\), already brought this key"):
        collection.update([open_source(str(tmp_path / "a.jsonl"))], strict=True)
    assert collection.keys() == ["x"]


def test_what_one_source_may_not_bring_its_owner_may_in_the_same_run(tmp_path, collection):
    def sources(mine, yours):
        for name, text in (("a", mine), ("b", yours)):
            records = [json.dumps({"_id": key, "text": said}) for key, said in text.items()]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(records), "utf-8")
        return [open_source(str(tmp_path / f"{name}.jsonl")) for name in ("b", "a")]

    collection.update(sources({"x": "un", "z": "trois"}, {"y": "deux"})[::-1])
    changed = collection.update(sources({"x": "un, revu", "z": "trois"}, {"x": "autre", "y": "deux"}))
    assert (changed.updated, changed.rejected) == (1, 1)
    assert collection.document("x").text == "un, revu"
    moved = sources({"z": "trois"}, {"x": "autre", "y": "deux"})
    assert collection.update(moved, prune=True).removed == 1
    assert collection.update(moved, prune=True).added == 1
    assert collection.document("x").text == "autre"


@pytest.mark.parametrize(
    "name", [normalize("NFD", "été"), "zéro\u200blargeur", b"caf\xe9".decode("utf-8", "surrogateescape")]
)
def test_a_source_whose_name_is_shown_otherwise_than_it_is_spelt_is_not_gone(tmp_path, collection, name):
    try:
        (tmp_path / name / "sous").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system does not take the name")
    (tmp_path / name / "sous" / "a.txt").write_text("Le chat dort.", "utf-8")
    source = tmp_path / name / "sous"
    assert collection.update([open_source(str(source))]).notices == []
    assert collection.update([open_source(str(source))]).notices == []
    shutil.rmtree(source)
    (tmp_path / "autre").mkdir()
    (tmp_path / "autre" / "b.txt").write_text("Le chien dort.", "utf-8")
    (notice,) = collection.update([open_source(str(tmp_path / "autre"))]).notices
    assert "is gone" in notice


def test_a_source_given_twice_is_read_once(tmp_path, collection):
    (tmp_path / "a.jsonl").write_text('{"_id": "x", "text": "un"}\n', "utf-8")
    report = collection.update([open_source(str(tmp_path / "a.jsonl"))] * 2)
    assert (report.added, report.rejected) == (1, 0)


def test_two_sources_of_one_name_do_not_collide(tmp_path, collection):
    for parent in ("x", "y"):
        (tmp_path / parent / "docs").mkdir(parents=True)
        (tmp_path / parent / "docs" / "a.txt").write_text(f"Texte de {parent}.", "utf-8")
    collection.update([open_source(str(tmp_path / parent / "docs")) for parent in ("x", "y")])
    assert collection.keys() == ["docs-2/a.txt", "docs/a.txt"]


def test_a_key_that_another_source_brought_is_rejected_not_replaced(tmp_path, collection):
    for name in ("un", "deux"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"_id": "x", "text": name}) + "\n", "utf-8")
    report = collection.update([open_source(str(tmp_path / f"{name}.jsonl")) for name in ("un", "deux")])
    assert (report.added, report.rejected, collection.document("x").text) == (1, 1, "un")


def test_lines_and_pages_name_the_place_of_a_passage(tmp_path):
    text = "\n".join(f"Ligne numéro {number}." for number in range(1, 41))
    document = Document("lignes", text, has_lines=True)
    paged = Document("pages", text, pages=(0, text.index("Ligne numéro 21")))
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:12:3") as collection:
        collection.add([document, paged])
        hits = collection.search("ligne", SearchOptions(k=100, rerank=False)).hits
        assert {(hit.page, hit.last_page) for hit in hits} == {(None, None), (1, 1), (1, 2), (2, 2)}
        for hit in hits:
            if hit.key == "lignes":
                assert hit.line == 1 + text[: hit.start].count("\n")
            else:
                assert hit.page == (1 if hit.start < paged.pages[1] else 2)
                assert hit.last_page == (1 if hit.end <= paged.pages[1] else 2)


def test_verify_calls_a_fresh_collection_sound(hybrid):
    hybrid.add(ANIMALS)
    report = hybrid.verify()
    assert (report["state"], report["problems"], report["documents"], report["passages"]) == ("sound", [], 3, 3)


def test_verify_names_a_document_that_was_altered(collection):
    long = Document("long", "Un. " * 400, "Long", {"pages": 3})
    collection.add([*ANIMALS, long])
    assert collection.verify()["state"] == "sound"
    with closing(sqlite3.connect(collection._reader.catalog.path)) as connection, connection:
        connection.execute("UPDATE passages SET text = replace(text, 'herbe', 'avoine')")
        connection.execute("UPDATE documents SET title = 'Lang' WHERE key = 'long'")
        connection.execute("UPDATE passages SET text = replace(text, 'Un', 'On') WHERE id = 5")
    report = collection.verify()
    assert report["state"] == "damaged"
    assert report["problems"] == [
        "passages that are not their document's text: 1",
        "cheval: the catalog holds something else than was indexed",
        "long: the catalog holds something else than was indexed",
    ]


def test_a_question_of_stop_words_alone_is_told_so(collection):
    collection.add(ANIMALS)
    assert collection.search("qui est-ce et pour quoi ?", FIRST).notices == (
        "the question has only words that BM25 leaves out: add one that tells more",
    )
    assert collection.search("zèbre", FIRST).notices == ()


def test_a_search_that_asks_bm25_nothing_tells_nothing_of_it(hybrid):
    hybrid.add(ANIMALS)
    dense = SearchOptions(first_stage="dense", rerank=False, where={"genre": "aucun"})
    assert hybrid.search("qui est-ce et pour quoi ?", dense).notices == ()


def test_verify_calls_a_lag_pending(hybrid, monkeypatch):
    hybrid.add(ANIMALS)
    monkeypatch.setattr("engine.writer.Writer._encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hybrid.add([Document("chien", "Le chien aboie.")])
    report = hybrid.verify()
    assert (report["state"], report["pending"]) == ("pending", {"dense": 1})
    assert "chien" not in keys(hybrid.search("chien", FIRST))
    assert keys(hybrid.search("chien", SearchOptions(rerank=False, first_stage="bm25"))) == ["chien"]


def test_after_an_interruption_nothing_is_encoded_twice(hybrid, monkeypatch):
    from indexes.dense import DenseWriter

    monkeypatch.setattr(DenseWriter, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hybrid.add(ANIMALS)
    monkeypatch.undo()
    monkeypatch.setattr("engine.models.biencoder.BiEncoder.encode_windows", None)
    hybrid.add([])
    assert hybrid.verify()["state"] == "sound"


@pytest.fixture
def encoded(monkeypatch):
    """Texts that the bi-encoder reads as passages from now on."""
    from engine.models import BiEncoder

    texts, encode = [], BiEncoder.encode_windows

    def watched(self, windows, progress=None):
        windows = [(label, list(window)) for label, window in windows]
        texts.extend(text for _, window in windows for text in window)
        return encode(self, iter(windows), progress)

    monkeypatch.setattr(BiEncoder, "encode_windows", watched)
    return texts


def vectors(collection):
    from indexes.dense import DenseIndex

    with collection._catalog() as catalog:
        index = DenseIndex.open(catalog.path.parent / "dense")
        return {key: index._store.rows(catalog.select(key, {}, catalog.sequence))[0] for key in catalog.keys()}


def test_a_file_that_moved_is_not_encoded_again(tmp_path, hybrid, encoded):
    folder = tmp_path / "notes"
    for name in ("ici", "là"):
        (folder / name).mkdir(parents=True)
    (folder / "chat.txt").write_text("Le chat dort sur le canapé.", "utf-8")
    (folder / "lion.txt").write_text("Le lion rugit.", "utf-8")
    hybrid.update([open_source(str(folder))])
    before = vectors(hybrid)["notes/chat.txt"]
    del encoded[:]
    shutil.copy(folder / "chat.txt", folder / "ici")
    (folder / "chat.txt").rename(folder / "là" / "chat.txt")
    report = hybrid.update([open_source(str(folder))], prune=True)
    assert (report.added, report.removed, encoded) == (2, 1, [])
    for place in ("ici", "là"):
        np.testing.assert_array_equal(vectors(hybrid)[f"notes/{place}/chat.txt"], before)
    assert "notes/là/chat.txt" in keys(hybrid.search("chat", SearchOptions(rerank=False, first_stage="bm25")))
    assert hybrid.verify()["state"] == "sound"


def test_who_does_not_prune_hears_of_what_is_gone(tmp_path, collection):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(f"Le texte de {name}.", "utf-8")
    assert collection.update([open_source(str(folder))]).notices == []
    for name in ("a", "b"):
        (folder / f"{name}.txt").unlink()
        report = collection.update([open_source(str(folder))])
    assert report.notices == ["notes: 2 documents are no longer there, and still found (--prune removes them)"]
    report = collection.update([open_source(str(folder))], prune=True)
    assert (report.removed, report.notices) == (2, [])


def test_a_source_inside_another_is_told_of_once(tmp_path, collection):
    folder = tmp_path / "notes"
    (folder / "ici").mkdir(parents=True)
    (folder / "ici" / "a.txt").write_text("Le texte.", "utf-8")
    assert collection.update([open_source(str(folder / "ici"))]).notices == []
    told = ["ici lies in notes: what both hold is indexed twice"]
    assert collection.update([open_source(str(folder))]).notices == told
    assert collection.update([open_source(str(folder)), open_source(str(folder / "ici"))]).notices == []
    assert collection.update([open_source(str(folder / "ici" / "a.txt"))]).notices == [
        "a.txt lies in ici: what both hold is indexed twice",
        "a.txt lies in notes: what both hold is indexed twice",
    ]


def test_of_a_document_that_changed_only_what_changed_is_encoded_again(hybrid, encoded):
    paragraphs = [" ".join(f"mot{n}x{m}" for m in range(140)) + "." for n in range(4)]
    hybrid.add([Document("roman", "\n\n".join(paragraphs))])
    passages = len(encoded)
    before = vectors(hybrid)["roman"]
    del encoded[:]
    hybrid.add([Document("roman", "\n\n".join([*paragraphs[:3], "Une autre fin."]))])
    assert 0 < len(encoded) < passages
    assert "Une autre fin." in encoded[-1]
    np.testing.assert_array_equal(vectors(hybrid)["roman"][0], before[0])
    assert hybrid.verify()["state"] == "sound"


@pytest.mark.parametrize("store", ["dense", "tokens"])
def test_what_an_interrupted_run_stored_and_a_later_one_removed_is_not_published(hybrid, monkeypatch, store):
    """Seen under kill -9: the dense index held passages that were not in the catalog."""
    from indexes.segments import SegmentStore

    commit = SegmentStore.commit

    def interrupted(self, applied):
        if store in self.folder.parts or store == self.folder.name:
            raise KeyboardInterrupt
        commit(self, applied)

    monkeypatch.setattr(SegmentStore, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hybrid.add(ANIMALS)
    monkeypatch.undo()
    hybrid.delete(["lion"])
    assert (hybrid.verify()["state"], hybrid.verify()["problems"]) == ("sound", [])
    assert sorted(keys(hybrid.search("dort", SearchOptions(rerank=False)))) == ["chat", "cheval"]


def test_info_is_json_and_counts(hybrid):
    hybrid.add(ANIMALS)
    info = json.loads(json.dumps(hybrid.info()))
    assert (info["documents"], info["first_stage"], info["applied"]) == (3, "hybrid", {"bm25": 1, "dense": 1})


def test_what_is_tuned_is_remembered_and_used(hybrid):
    hybrid.add(ANIMALS)
    hybrid.remember(interpolate=1.5, k1=0.9)
    with Collection.open(hybrid.path) as again:
        hit = again.search("chat").hits[0]
        assert hit.score == pytest.approx(hit.rerank_logit + 1.5 * hit.first_stage_z, abs=1e-5)
    with pytest.raises(InvalidOption):
        hybrid.remember(encoder="autre")


def test_what_was_tuned_is_for_the_reranker_it_was_tuned_with(hybrid, tiny, tmp_path):
    other = shutil.copytree(tiny.reranker, tmp_path / "autre")
    hybrid.add(ANIMALS)
    hybrid.remember(interpolate=1.5, candidates=2, k1=0.9, fusion_weight=0.5)
    for reranker, weight in ((tiny.reranker, 1.5), (other, 0.0)):
        hit = hybrid.search("chat", SearchOptions(reranker=str(reranker), k=1)).hits[0]
        mixed = hit.rerank_logit + weight * hit.first_stage_z
        assert hit.score == pytest.approx(mixed if weight else hit.rerank_score, abs=1e-5)
    hybrid.remember(reranker=str(tiny.reranker))
    assert hybrid.memory["interpolate"] == 1.5
    hybrid.remember(reranker=str(other), candidates=3)
    kept = {name: hybrid.memory.get(name) for name in ("interpolate", "candidates", "k1", "fusion_weight")}
    assert kept == {"interpolate": None, "candidates": 3, "k1": 0.9, "fusion_weight": 0.5}


def test_rebuild_with_another_reranker_keeps_the_fusion_that_was_tuned(hybrid, tiny, tmp_path):
    hybrid.add(ANIMALS)
    hybrid.remember(interpolate=1.5, fusion_weight=0.5)
    Collection.rebuild(hybrid.path, reranker=str(shutil.copytree(tiny.reranker, tmp_path / "autre")))
    assert (hybrid.memory.get("interpolate"), hybrid.memory.get("fusion_weight")) == (None, 0.5)


def test_a_rebuild_that_ends_between_finding_a_generation_and_opening_it_is_no_damage(collection, monkeypatch):
    collection.add(ANIMALS)
    gone, current = generation.current(collection.path), generation.current
    Collection.rebuild(collection.path)
    found = [gone]  # what is found first was taken away since
    monkeypatch.setattr(generation, "current", lambda path: found.pop() if found else current(path))
    with Collection.open(collection.path) as again:
        assert keys(again.search("chat", FIRST)) == ["chat"]
        found.append(gone)
        assert again.keys("ch*") == ["chat", "cheval"]
        found += [gone, gone]
        assert again.document("chat").title == ""
    (current(collection.path) / "catalog.sqlite").unlink()
    with pytest.raises(CollectionDamaged):
        Collection.open(collection.path)


def altered(collection, sql):
    with closing(sqlite3.connect(generation.current(collection.path) / "catalog.sqlite")) as connection, connection:
        connection.execute(sql)


def test_rebuilding_a_damaged_catalog_carries_over_what_can_be_read(collection, tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("un", "deux"):
        (tmp_path / "docs" / f"{name}.txt").write_text(f"Le chat {name} dort.", "utf-8")
    collection.update([open_source(str(tmp_path / "docs"))])
    collection.add([*ANIMALS, Document("long", "Une phrase assez longue pour être coupée. " * 60)])
    altered(collection, "UPDATE passages SET text = 'x' WHERE document = (SELECT id FROM documents WHERE key = 'long')")
    altered(collection, "UPDATE documents SET metadata = '{' WHERE key = 'chat'")
    report = Collection.rebuild(collection.path)
    assert "not all could be read" in report.notices[-1]
    assert collection.keys() == ["cheval", "docs/deux.txt", "docs/un.txt", "lion", "long"]
    assert collection.document("long").text.startswith("Une phrase")
    assert collection.verify()["state"] == "sound"
    collection.add([Document("loup", "Le loup hurle.")])
    assert sorted(path.name for path in collection.path.glob("*g?")) == ["damaged-g1", "g2"], "nothing is lost yet"
    assert Collection.rebuild(collection.path).notices == []
    assert [path.name for path in collection.path.glob("*g?")] == ["g3"]


def test_a_rebuild_for_bm25_alone_wants_no_encoder(hybrid, tiny, tmp_path):
    hybrid.add(ANIMALS)
    encoder = tmp_path / "encoder"
    shutil.copytree(tiny.encoder, encoder)
    Collection.rebuild(hybrid.path, encoder=str(encoder))
    shutil.rmtree(encoder)
    with pytest.raises(ModelNotFound):
        Collection.rebuild(hybrid.path)
    Collection.rebuild(hybrid.path, first_stage="bm25")
    assert keys(hybrid.search("chat", FIRST)) == ["chat"]
    assert hybrid.info()["first_stage"] == "bm25"


def test_a_catalog_that_cannot_be_read_is_not_replaced_by_nothing(collection):
    collection.add(ANIMALS)
    catalog = generation.current(collection.path) / "catalog.sqlite"
    catalog.write_bytes(b"x" * 5000)
    with pytest.raises(CollectionDamaged, match="name the sources"):
        Collection.rebuild(collection.path)
    assert [path.name for path in generation.generations(collection.path)] == ["g1"]
    assert catalog.read_bytes() == b"x" * 5000


def test_an_interrupt_as_a_rebuild_ends_leaves_a_collection_that_opens(collection, monkeypatch):
    collection.add(ANIMALS)
    point_to = generation.point_to

    def interrupted(new):
        point_to(new)
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "point_to", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Collection.rebuild(collection.path)
    assert keys(collection.search("chat", FIRST)) == ["chat"]


@pytest.mark.parametrize("strict", [False, True])
def test_records_of_a_source_that_was_moved_are_the_new_one_s(collection, tmp_path, strict):
    records = [json.dumps({"_id": name, "text": f"Le {name} dort."}) for name in ("chat", "chien", "lion")]
    (tmp_path / "un.jsonl").write_text("\n".join(records))
    collection.update([open_source(str(tmp_path / "un.jsonl"))])
    (tmp_path / "deux.jsonl").write_text("\n".join(records))
    assert collection.update([open_source(str(tmp_path / "deux.jsonl"))]).rejected == 3  # both are there
    (tmp_path / "un.jsonl").unlink()
    (tmp_path / "deux.jsonl").write_text("\n".join(records[:2]))
    report = collection.update([open_source(str(tmp_path / "deux.jsonl"))], strict=strict)
    assert (report.rejected, report.updated, report.added) == (0, 2, 0)
    assert report.notices == [
        f"{tmp_path / 'un.jsonl'} is gone, and its document is still found (fouille remove un.jsonl)"
    ]
    assert (collection.keys_of("un.jsonl"), collection.keys_of("deux.jsonl")) == (["lion"], ["chat", "chien"])
    assert collection.update([open_source(str(tmp_path / "deux.jsonl"))]).unchanged == 2
    assert keys(collection.search("chat", FIRST)) == ["chat"]


def test_what_a_source_that_is_gone_brought_is_not_replaced_by_something_else(collection, tmp_path):
    (tmp_path / "un.jsonl").write_text('{"_id": "1", "text": "Le chat dort."}\n{"_id": "2", "text": "Le lion rugit."}')
    collection.update([open_source(str(tmp_path / "un.jsonl"))])
    (tmp_path / "un.jsonl").unlink()
    (tmp_path / "deux.jsonl").write_text('{"_id": "1", "text": "Autre chose."}\n{"_id": "2", "text": "Le lion rugit."}')
    report = collection.update([open_source(str(tmp_path / "deux.jsonl"))])
    assert (report.updated, [str(one) for one in report.rejections]) == (
        1,
        [
            "1: another source, un.jsonl, which is gone, brought something else under this key; "
            "fouille remove un.jsonl makes room"
        ],
    )
    assert collection.document("1").text == "Le chat dort."
    with pytest.raises(DocumentError, match="which is gone"):
        collection.update([open_source(str(tmp_path / "deux.jsonl"))], strict=True)
    collection.delete(collection.keys_of("un.jsonl"))
    assert collection.update([open_source(str(tmp_path / "deux.jsonl"))]).added == 1


def test_a_glob_that_is_too_complex_is_the_askers_mistake(collection):
    collection.add(ANIMALS)
    with pytest.raises(InvalidOption, match="cannot be asked of the catalog"):
        collection.search("chat", SearchOptions(keys="*a" * 40_000, rerank=False))


def test_a_folder_that_was_taken_meanwhile_is_left_alone(tmp_path, monkeypatch):
    make = generation.make

    def late(folder, memory):
        (tmp_path / "c" / "of another").mkdir(parents=True)
        return make(folder, memory)

    monkeypatch.setattr(generation, "make", late)
    with pytest.raises(InvalidOption, match="the folder is taken"):
        Collection.create(tmp_path / "c", first_stage="bm25")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("options", [{"first_stage": "tfidf"}, {"splitter": "mots"}])
def test_a_bad_option_makes_no_folder(tmp_path, options):
    with pytest.raises(InvalidOption):
        Collection.create(tmp_path / "c", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InvalidOption, match="taken"):
        Collection.create(tmp_path, first_stage="bm25")


def test_a_missing_collection_and_a_folder_that_is_none_are_told_apart(tmp_path):
    with pytest.raises(CollectionNotFound, match="no such"):
        Collection.open(tmp_path / "absent")
    with pytest.raises(CollectionNotFound, match="no collection"):
        Collection.open(tmp_path)


@pytest.mark.parametrize("name", ["g2", "../../etc", "", "g1\n../x"])
def test_a_foreign_pointer_is_called_damaged(collection, name):
    (collection.path / "CURRENT").write_text(name, "ascii")
    with pytest.raises(CollectionDamaged):
        Collection.open(collection.path)


def test_collections_are_listed_with_their_counts_and_damage(collection, tmp_path):
    collection.add(ANIMALS)
    (tmp_path / "cassée").mkdir()
    (tmp_path / "cassée" / "CURRENT").write_text("g7", "ascii")
    listed = {entry["name"]: entry for entry in list_collections(tmp_path)}
    assert listed["collection"]["documents"] == 3
    assert "g7" in listed["cassée"]["error"]


@pytest.mark.parametrize("glob", ["facture[1]*", "facture[1].txt"])
def test_a_bracket_in_a_glob_is_itself(collection, glob):
    collection.add([Document("facture1.txt", "Une facture."), Document("facture[1].txt", "Une autre facture.")])
    assert collection.keys(glob) == ["facture[1].txt"]
    assert keys(collection.search("facture", SearchOptions(keys=glob, rerank=False))) == ["facture[1].txt"]


def test_decomposed_accents_name_the_same_as_composed_ones(collection):
    collection.add([Document("été.txt", "La plage.", metadata={"ville": "Orléans"})])
    decomposed = {"keys": normalize("NFD", "été*"), "where": {"ville": normalize("NFD", "Orléans")}}
    assert keys(collection.search("plage", SearchOptions(rerank=False, **decomposed))) == ["été.txt"]


def test_decomposed_text_is_found_and_comes_back_composed(collection):
    text = normalize("NFD", "Où est né Molière ?")
    collection.add([Document("a", text, normalize("NFD", "Théâtre"), pages=(0, len(normalize("NFD", "Où est né "))))])
    assert keys(collection.search("molière", FIRST)) == keys(collection.search("théâtre", FIRST)) == ["a"]
    document = collection.document("a")
    assert (document.text, document.title, document.pages) == ("Où est né Molière ?", "Théâtre", (0, 10))


@pytest.mark.parametrize(
    "values",
    [
        {"fusion_weight": 2.0},
        {"fusion_weight": float("nan")},
        {"candidates": 12.5},
        {"candidates": -3},
        {"interpolate": -5},
        {"b": 7},
        {"k1": float("nan")},
        {"long_passages": "zz"},
        {"reranker": 5},
    ],
)
def test_what_no_search_could_use_is_not_remembered(collection, values):
    before = dict(collection.memory)
    with pytest.raises(InvalidOption, match=next(iter(values))):
        collection.remember(**values)
    assert collection.memory == before


def test_a_reranker_forgotten_is_the_default_again(collection):
    before = collection.memory["reranker"]
    collection.remember(reranker="ailleurs/autre")
    collection.remember(reranker=None)
    assert collection.memory["reranker"] == before


def test_nothing_is_written_through_a_collection_that_was_closed(collection):
    collection.close()
    with pytest.raises(CollectionError, match="closed"):
        collection.add(ANIMALS)
    with Collection.open(collection.path) as again:
        assert again.keys() == []


def test_what_is_no_document_is_rejected(collection):
    report = collection.add([{"key": "a", "text": "Un texte."}, *ANIMALS])
    assert (report.added, str(report.rejections[0])) == (3, "document 1: is no Document but a dict")


@pytest.mark.parametrize("question", [None, b"chat"])
def test_a_question_that_is_no_text_is_refused(collection, question):
    with pytest.raises(InvalidQuestion, match="is text, not"):
        collection.search(question, FIRST)


@pytest.mark.parametrize(
    "options",
    [
        {"k1": "beaucoup"},
        {"where": None},
        {"where": {"a": "caf\udce9"}},
        {"keys": "caf\udce9*"},
        {"per_document": 0},
        {"interpolate": -1},
    ],
)
def test_options_that_mean_nothing_are_named(collection, options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        collection.search("chat", SearchOptions(rerank=False, **options))


def test_an_option_may_be_given_as_the_text_of_its_number(collection):
    as_text = collection.search("le cheval", SearchOptions(k1="0.9", b="0.4"))
    assert as_text.hits == collection.search("le cheval", SearchOptions(k1=0.9, b=0.4)).hits


@pytest.mark.parametrize("record", [SearchOptions(), Document("a", "b")])
def test_records_can_be_pickled_and_copied(record):
    assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record  # noqa: S301
    assert asdict(record)


def test_files_of_unknown_kinds_are_counted(tmp_path, collection):
    (tmp_path / "notes").mkdir()
    for name in ("a.txt", "b.log", "c.log"):
        (tmp_path / "notes" / name).write_text("Du texte.", "utf-8")
    assert collection.update([open_source(str(tmp_path / "notes"))]).skipped == {".log": 2}


def test_records_of_a_file_that_broke_are_not_pruned(tmp_path, collection):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("Le chat dort.", "utf-8")
    (folder / "b.csv").write_text("titre,texte\nun,Le lion dort.\ndeux,L'ours dort.\n", "utf-8")
    collection.update([open_source(str(folder))])
    before = collection.keys()
    assert any("#" in key for key in before)
    (folder / "b.csv").write_bytes(b"\0\1\2" * 100)
    report = collection.update([open_source(str(folder))], prune=True)
    assert (report.rejected, report.removed) == (1, 0)
    assert collection.keys() == before


def test_a_change_of_what_only_a_hit_shows_is_a_change(collection):
    for document in (
        Document("a", "un", " deux"),
        Document("a", "un deux"),
        Document("a", "un deux", pages=(0, 3)),
        Document("a", "un deux", has_lines=True),
        Document("a", "un", " deux", {"genre": "x"}),
        Document("a", "un", " deux", {"genre": "x"}, has_lines=True),
    ):
        report = collection.add([document])
        assert report.added + report.updated == 1
        assert collection.add([document]).unchanged == 1


def test_what_changed_in_a_later_transaction_leaves_nothing_of_the_old_behind(collection, monkeypatch):
    monkeypatch.setattr("engine.indexing.TRANSACTION_DOCUMENTS", 1)
    collection.add([Document(f"d{n}", f"Le chat {n} dort.") for n in range(3)])
    report = collection.add([Document(f"d{n}", f"Le lion {n} dort.") for n in range(3)])
    assert report.updated == 3
    assert collection.search("chat", FIRST).hits == ()
    assert sorted(keys(collection.search("lion", FIRST))) == ["d0", "d1", "d2"]
    assert collection.verify()["state"] == "sound"


def test_fusion_scores_what_only_bm25_found_by_its_exact_cosine(hybrid):
    words = ["pluie", "soleil", "jardin", "maison", "fromage", "cheval"]
    hybrid.add([Document(f"d{n}", f"Le chat {n}, {words[n % 6]} et {words[n % 5]}, dort.") for n in range(30)])
    every = hybrid.search("chat 29 soleil", SearchOptions(k=30, candidates=30, rerank=False)).hits
    found = hybrid.search("chat 29 soleil", SearchOptions(k=5, candidates=5, rerank=False)).hits
    cosine, bm25 = ({hit.key: getattr(hit, f"{side}_score") for hit in every} for side in ("dense", "bm25"))
    near, lexical = (sorted(side, key=lambda key: (-side[key], int(key[1:])))[:5] for side in (cosine, bm25))
    least = min(cosine[key] for key in {*near, *lexical})
    assert any(hit.dense_rank is None for hit in found)
    for hit in found:
        share = (cosine[hit.key] - least) / (cosine[near[0]] - least)
        wanted = 0.75 * share + 0.25 * (bm25[hit.key] / bm25[lexical[0]] if hit.bm25_rank else 0)
        assert hit.fused_score == pytest.approx(wanted, abs=1e-5)


def test_while_an_index_lags_all_that_both_know_is_found(hybrid, monkeypatch):
    hybrid.add(ANIMALS)
    monkeypatch.setattr("engine.writer.Writer._encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hybrid.add([Document("chien", "Le lion fuit le chien.")])
    found = hybrid.search("lion", FIRST)
    assert sorted(keys(found)) == ["chat", "cheval", "lion"]
    assert next(hit for hit in found.hits if hit.key == "lion").bm25_rank == 1
    assert any("lags behind" in notice for notice in found.notices)


def test_one_passage_a_document_takes_no_more_candidates_than_were_asked_for(tmp_path):
    crowd = [Document(f"d{n}", "\n\n".join(f"Le loup numéro {number} hurle." for number in range(2))) for n in range(6)]
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:5:0") as collection:
        collection.add(crowd)
        found = collection.search("loup", SearchOptions(k=2, candidates=2, rerank=False, per_document=1))
        assert (found.candidates, len({hit.key for hit in found.hits})) == (2, 2)
        # Eight passages are looked at for two, and four documents have them.
        every = collection.search("loup", SearchOptions(k=6, candidates=6, rerank=False, per_document=1))
        assert (every.candidates, len({hit.key for hit in every.hits})) == (6, 6)


def test_what_one_source_rejects_keeps_nothing_of_another_from_being_pruned(tmp_path, collection):
    broken, sound = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    broken.write_text('{"_id": "1", "text": "un"}\n{"_id": ', "utf-8")
    sound.write_text('{"_id": "2", "text": "deux"}\n{"_id": "3", "text": "trois"}\n', "utf-8")
    sources = [open_source(str(path)) for path in (broken, sound)]
    assert collection.update(sources).rejected == 1
    sound.write_text('{"_id": "2", "text": "deux"}\n', "utf-8")
    report = collection.update(sources, prune=True)
    assert (report.rejected, report.removed) == (1, 1)
    assert len(collection.keys()) == 2


def test_a_rebuild_that_reads_the_sources_again_counts_what_is_new_in_them(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("chat", "lion"):
        (folder / f"{name}.txt").write_text(f"Le {name} dort.", "utf-8")
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.update([open_source(str(folder))])
    (folder / "lion.txt").write_text("Le lion rugit.", "utf-8")
    (folder / "ours.txt").write_text("L'ours rugit.", "utf-8")
    report = Collection.rebuild(tmp_path / "c", [open_source(str(folder))])
    assert (report.added, report.updated, report.unchanged, report.rejected) == (1, 1, 1, 0)
    with Collection.open(tmp_path / "c") as rebuilt:
        assert sorted(keys(rebuilt.search("rugit", FIRST))) == ["notes/lion.txt", "notes/ours.txt"]


def test_a_rebuild_keeps_the_passages_of_a_source_that_holds_passages(tmp_path, beir_of):
    passages = [" ".join(f"La phrase {row}.{number} est là." for row in range(60)) for number in range(2)]
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.update([open_source(str(beir_of(passages, ["phrase"], {0: 0})))])
        before = collection.info()["passages"]
    Collection.rebuild(tmp_path / "c")
    with Collection.open(tmp_path / "c") as rebuilt:
        assert rebuilt.info()["passages"] == before == 2


def test_a_reranked_hit_keeps_what_the_first_stage_said_of_it(hybrid):
    from indexes.fusion import standardised

    words = ["pluie", "soleil", "jardin", "maison", "fromage", "cheval"]
    short = [Document(f"d{n}", f"Le chat {n}, {words[n % 6]} et {words[n % 5]}, dort.") for n in range(20)]
    hybrid.add([*short, Document("long", "Le chat dort. " + "Il mange. " * 70)])
    first, reranked = (
        hybrid.search("chat soleil 7", SearchOptions(k=21, candidates=21, rerank=rerank)).hits
        for rerank in (False, True)
    )
    before = {hit.key: hit for hit in first}
    assert list(before) != [hit.key for hit in reranked]
    for stage in ("bm25", "dense"):
        alone = hybrid.search("chat soleil 7", SearchOptions(k=21, candidates=21, rerank=False, first_stage=stage)).hits
        for hit in alone:
            assert getattr(before[hit.key], f"{stage}_rank") == hit.rank
            assert getattr(before[hit.key], f"{stage}_score") == pytest.approx(hit.score, abs=1e-6)
    z = dict(zip(before, standardised(np.array([hit.fused_score for hit in first])), strict=True))
    for hit in reranked:
        for name in ("bm25_rank", "bm25_score", "dense_rank", "dense_score", "fused_score"):
            assert getattr(hit, name) == getattr(before[hit.key], name)
        assert hit.first_stage_z == pytest.approx(z[hit.key], abs=1e-5)
        assert hit.rerank_score == pytest.approx(1 / (1 + np.exp(-hit.rerank_logit)), abs=1e-6)
    assert [hit.key for hit in reranked if hit.truncated] == ["long"]


def test_passages_that_the_reranker_scores_the_same_come_in_the_order_of_their_ids(hybrid):
    hybrid.add([Document(f"d{number}", "Le chat dort.") for number in range(6)])
    hits = hybrid.search("chat", SearchOptions(k=4)).hits
    assert len({hit.score for hit in hits}) == 1
    assert [hit.passage_id for hit in hits] == sorted(hit.passage_id for hit in hits)
    assert [hit.key for hit in hits] == ["d0", "d1", "d2", "d3"]


def test_a_move_that_was_interrupted_is_completed(tmp_path, hybrid, monkeypatch):
    from indexes.dense import DenseWriter

    folder = tmp_path / "notes"
    (folder / "là").mkdir(parents=True)
    (folder / "chat.txt").write_text("Le chat dort sur le canapé.", "utf-8")
    hybrid.update([open_source(str(folder))])
    (folder / "chat.txt").rename(folder / "là" / "chat.txt")
    monkeypatch.setattr(DenseWriter, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hybrid.update([open_source(str(folder))], prune=True)
    monkeypatch.undo()
    hybrid.add([])
    assert hybrid.verify()["state"] == "sound"
    assert keys(hybrid.search("chat", SearchOptions(rerank=False, first_stage="dense"))) == ["notes/là/chat.txt"]

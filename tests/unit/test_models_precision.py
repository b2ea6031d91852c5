"""What precision `auto` gives: fp32's scores, after a draft in bf16 where the processor gains by it."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import sample
from engine.collection import Collection
from engine.documents import open_source
from engine.errors import InvalidOption
from engine.models import BiEncoder, CrossEncoder, torch_runtime
from engine.models import model as models
from engine.records import SearchOptions, SearchResult
from engine.settings import Settings
from engine.terminal import doctor

WORDS = ["cheval", "jardin", "maison", "fromage", "pluie", "soleil", "pomme", "livre", "route", "mer"]


@pytest.fixture(autouse=True)
def bf16_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever processor the tests run on, its measurement speaks for bf16, at once."""
    monkeypatch.setattr(models.Model, "drafts_pay", lambda *_: True)
    monkeypatch.setattr(models, "cpu_precision", lambda *_: "bf16")


@pytest.fixture
def auto(tiny: SimpleNamespace) -> CrossEncoder:
    return CrossEncoder(tiny.reranker, "cpu")


@pytest.fixture
def exact(tiny: SimpleNamespace) -> CrossEncoder:
    return CrossEncoder(tiny.reranker, "cpu", "fp32")


def passages_of(count: int) -> list[str]:
    random = np.random.default_rng(3)
    return [" ".join(random.choice(WORDS, random.integers(3, 160))) for _ in range(count)]


def test_auto_is_fp32_after_a_draft(auto: CrossEncoder) -> None:
    assert (auto.precision, auto.draft_precision) == ("fp32", "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_holds_for_all(tiny: SimpleNamespace, precision: str) -> None:
    model = CrossEncoder(tiny.reranker, "cpu", precision)
    assert (model.precision, model.draft_precision) == (precision, None)


def test_plain_scores_are_those_of_fp32(auto: CrossEncoder, exact: CrossEncoder) -> None:
    passages = passages_of(60)
    expected = exact.score("la maison", passages, activation="none")
    np.testing.assert_array_equal(auto.score("la maison", passages, activation="none"), expected)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_the_best_k_are_those_of_fp32(auto: CrossEncoder, exact: CrossEncoder, activation: str) -> None:
    passages = passages_of(90)
    best = auto.rank("la maison", passages, 10, activation=activation)
    scores = exact.score("la maison", passages, activation=activation)
    assert best.ids.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
    np.testing.assert_allclose(best.scores, scores[best.ids], atol=1e-4, rtol=0)


def test_fewer_passages_than_k_are_all_ranked(auto: CrossEncoder) -> None:
    assert sorted(auto.rank("la maison", ["soleil", "pluie"], 10).ids.tolist()) == [0, 1]
    assert auto.rank("la maison", []).ids.tolist() == []


@pytest.mark.parametrize("long_passages", ["truncate", "maxp"])
def test_each_question_has_its_own_first_k(auto: CrossEncoder, exact: CrossEncoder, long_passages: str) -> None:
    questions, stored = ["la maison", "pluie et soleil"], exact.tokenize_passages(passages_of(80))
    pairs = np.stack([np.tile([0, 1], 80), np.repeat(np.arange(80), 2)], axis=1)
    added = np.random.default_rng(1).normal(0, 1, len(pairs)).astype(np.float32)
    found = auto.score_top(questions, stored, pairs, 10, added=added, long_passages=long_passages)
    expected = exact.score_tokens(questions, stored, pairs, long_passages=long_passages)
    assert 20 <= (~found.drafted).sum() < 160
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    assert found.truncated.any() == (long_passages == "truncate")
    for question in (0, 1):
        rows = np.flatnonzero(pairs[:, 0] == question)
        first, best = (rows[np.argsort(-(logits + added)[rows])[:10]] for logits in (found.logits, expected.logits))
        assert first.tolist() == best.tolist()
        np.testing.assert_allclose(found.logits[first], expected.logits[best], atol=1e-4, rtol=0)


def test_without_a_draft_every_logit_is_exact(exact: CrossEncoder) -> None:
    stored, pairs = exact.tokenize_passages(passages_of(50)), np.stack([np.zeros(50, int), np.arange(50)], axis=1)
    found = exact.score_top(["la maison"], stored, pairs, 3)
    assert not found.drafted.any()
    np.testing.assert_array_equal(found.logits, exact.score_tokens(["la maison"], stored, pairs).logits)


def test_none_of_the_best_is_refused(auto: CrossEncoder) -> None:
    with pytest.raises(InvalidOption, match="k: 0 is less than 1"):
        auto.rank("la maison", ["soleil"], 0)


def test_only_the_precisions_in_use_are_in_memory(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from engine.models import onnx_runtime

    made: list[str] = []
    exact, drafting = onnx_runtime.OnnxRuntime.__init__, torch_runtime.load

    def record_exact(*given: Any, **named: Any) -> None:
        made.append("fp32")
        exact(*given, **named)

    def record(*given: Any, precision: str, **named: Any) -> Any:
        made.append(precision)
        return drafting(*given, precision=precision, **named)

    monkeypatch.setattr(models, "onnx_is_as_fast", lambda *_: True)
    monkeypatch.setattr(onnx_runtime.OnnxRuntime, "__init__", record_exact)
    monkeypatch.setattr(torch_runtime, "load", record)
    CrossEncoder(tiny.reranker, "cpu", "fp32").rank("la maison", passages_of(90))
    assert made == ["fp32"]
    made.clear()
    model = CrossEncoder(tiny.reranker, "cpu")
    assert made == ["bf16"]
    for _ in range(2):
        model.rank("la maison", passages_of(90))
    assert made == ["bf16", "fp32"]


def test_drafts_begin_once_they_pay(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    paying = False

    def pays(_: models.Model, tokens: int) -> bool:
        asked.append(tokens)
        return paying

    monkeypatch.setattr(models.Model, "drafts_pay", pays)
    model, passages = CrossEncoder(tiny.reranker, "cpu"), passages_of(90)
    stored = model.tokenize_passages(passages)
    pairs = np.column_stack([np.zeros(90, np.intp), np.arange(90)])
    found = [model.score_top(["la maison"], stored, pairs, 3)]
    paying = True
    found.append(model.score_top(["la maison"], stored, pairs, 3))
    assert [one.drafted.any() for one in found] == [False, True]
    assert asked == [0, *[int(np.diff(stored.offsets).clip(max=model.max_length).sum())] * 2]
    best = np.argsort(-found[0].logits)[:3]
    np.testing.assert_allclose(found[1].logits[best], found[0].logits[best], atol=1e-5)


def test_questions_are_encoded_in_fp32_and_passages_in_what_is_fastest(
    tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    runtime = models.Model.runtime

    def noted(self: models.Model, precision: Any) -> Any:
        ran.append(precision)
        return runtime(self, precision)

    monkeypatch.setattr(models.Model, "runtime", noted)
    for asked, expected in (("auto", ["fp32", "bf16"]), ("bf16", ["bf16", "bf16"])):
        ran.clear()
        model = BiEncoder(tiny.encoder, "cpu", asked)
        model.encode_queries(["la maison"])
        model.encode_passages(["le jardin"])
        assert (model.precision, ran) == ("bf16", expected)


def test_a_precision_is_made_once_whatever_thread_asks(tiny: SimpleNamespace) -> None:
    model = models.Model(Path(tiny.reranker), task="classify", device="cpu")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(model.runtime, ["bf16", "fp32"] * 8))
    assert len(set(map(id, made))) == 2
    assert [one.precision for one in made[:2]] == ["bf16", "fp32"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny: SimpleNamespace) -> Path:
    """The sample documents in passages of a few words, so that every question has many candidates."""
    folder = tmp_path_factory.mktemp("precision") / "guide"
    with Collection.create(
        folder, first_stage="bm25", splitter="words:30:5", reranker=str(tiny.reranker), settings=Settings(device="cpu")
    ) as made:
        made.add(open_source(str(sample.DOCUMENTS)).read())
    return folder


def searches(collection: Path, precision: str, options: SearchOptions) -> list[SearchResult]:
    questions = sample.QUESTIONS.read_text("utf-8").splitlines()
    with Collection.open(collection, settings=Settings(device="cpu", precision=precision)) as opened:
        return list(opened.search_many([question.split("\t")[1] for question in questions], options))


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(rerank=True),
        SearchOptions(rerank=True, k=3, interpolate=1.0),
        SearchOptions(rerank=True, k=5, per_document=1, candidates=60),
        SearchOptions(rerank=True, long_passages="maxp"),
    ],
    ids=["alone", "interpolated", "one a document", "windows"],
)
def test_a_search_shows_what_fp32_shows(collection: Path, options: SearchOptions) -> None:
    found, expected = (searches(collection, precision, options) for precision in ("auto", "fp32"))
    drafted = [result for result in found if result.draft_precision]
    assert len(drafted) > len(found) / 2
    assert all(10 <= result.rescored < result.candidates for result in drafted)
    assert {(result.precision, result.draft_precision, result.rescored) for result in expected} == {("fp32", None, 0)}
    missed = 0
    for result, exact in zip(found, expected, strict=True):
        mine, theirs = ({hit.passage_id: hit for hit in one.hits} for one in (result, exact))
        both = sorted(mine.keys() & theirs.keys())
        for name in ("score", "rerank_logit"):
            values = [[getattr(hits[id_], name) for id_ in both] for hits in (mine, theirs)]
            np.testing.assert_allclose(*values, atol=1e-4, rtol=0)
        scores = [hit.score for hit in result.hits]
        assert scores == sorted(scores, reverse=True)
        assert result.truncated == exact.truncated
        # Those that part only by rounding may change places with the batch that they are computed in.
        missed += sum(theirs[id_].score > scores[-1] + 5e-6 for id_ in theirs.keys() - mine.keys())
    # The margin is no proof, least of all for random weights, whose scores lie close together.
    assert missed <= max(1, sum(len(exact.hits) for exact in expected) // 100)


def test_the_doctor_tells_the_precision(tiny: SimpleNamespace) -> None:
    for precision, told in (("auto", "auto: bf16 draft, the first hits again in fp32"), ("bf16", "bf16: bf16")):
        settings = Settings(device="cpu", precision=precision, reranker=str(tiny.reranker))
        assert [check.found for check in doctor.examine(settings) if check.name == "precision"] == [told]


def test_a_search_of_both_stages_in_fp32_waits_for_no_torch(tiny: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    settings = Settings(device="cpu", precision="fp32")
    options = {"first_stage": "hybrid", "encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
    with Collection.create(tmp_path / "guide", splitter="none", settings=settings, **options) as made:
        made.add(open_source(str(sample.DOCUMENTS)).read())
    code = """
import sys
from pathlib import Path
from engine import Collection
from engine.models import model
from engine.settings import Settings
model.onnx_is_as_fast = lambda *_: True
with Collection.open(Path(sys.argv[1]), settings=Settings(device="cpu", precision="fp32")) as opened:
    found = opened.search("comment faire lever une pâte")
    print(found.reranker is not None, found.first_stage, "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "guide")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "hybrid", "False"]


def test_a_collection_that_was_told_to_prepare_has_its_models_at_the_first_question(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    options = {"first_stage": "hybrid", "encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
    with Collection.create(tmp_path / "guide", splitter="none", settings=Settings(device="cpu"), **options) as made:
        made.add(open_source(str(sample.DOCUMENTS)).read())
    for asked, encoders, rerankers in ((None, 1, 1), (SearchOptions(first_stage="bm25", rerank=False), 0, 0)):
        with Collection.open(tmp_path / "guide", settings=Settings(device="cpu")) as opened:
            opened.prepare(asked)
            for thread in threading.enumerate():
                if thread.name == "fouille-models":
                    thread.join()
            assert (len(opened.shelf._encoders), len(opened.shelf._rerankers)) == (encoders, rerankers)
            assert opened.search("comment faire lever une pâte").reranker == str(tiny.reranker)

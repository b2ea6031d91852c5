"""fouille inside PyTerrier and mteb, where these are installed; each module's example runs."""

import doctest
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import DependencyMissing
from engine.models import BiEncoder, CrossEncoder
from engine.records import Document, SearchOptions

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def reranker(tiny: SimpleNamespace) -> CrossEncoder:
    return CrossEncoder(str(tiny.reranker), device="cpu", precision="fp32")


def run_examples(module: str, **names: object) -> None:
    loaded = importlib.import_module(module)
    tests = doctest.DocTestFinder(recurse=False).find(loaded, globs=dict(names))
    runner = doctest.DocTestRunner()
    assert sum(runner.run(test).attempted for test in tests if test.examples) > 0
    assert runner.summarize().failed == 0


@pytest.mark.parametrize(("module", "library"), [("pyterrier", "pyterrier"), ("mteb", "mteb")])
def test_missing_library_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, module: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"engine.evaluation.{module}", raising=False)
    with pytest.raises(DependencyMissing, match="not installed"):
        importlib.import_module(f"engine.evaluation.{module}")


def test_pyterrier_example_runs_and_starts_no_jvm(reranker: CrossEncoder) -> None:
    pt = pytest.importorskip("pyterrier")
    run_examples("engine.evaluation.pyterrier", reranker=reranker)
    assert not pt.java.started()


def test_pyterrier_pipeline_retrieves_and_reranks(reranker: CrossEncoder, tmp_path: Path) -> None:
    pytest.importorskip("pyterrier")
    pd = pytest.importorskip("pandas")
    from engine.evaluation.pyterrier import FouilleReranker, FouilleRetriever

    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add([Document("a", "Le chat dort."), Document("b", "Le chat mange."), Document("c", "Il pleut.")])
        first = FouilleRetriever(collection, SearchOptions(k=10, first_stage="bm25", rerank=False))
        found = (first >> FouilleReranker(reranker))(pd.DataFrame({"qid": ["1"], "query": ["le chat dort"]}))
    assert set(found["docno"]) == {"a", "b"}
    assert found["rank"].tolist() == [0, 1]
    assert found["score"].is_monotonic_decreasing


def test_mteb_example_runs(reranker: CrossEncoder) -> None:
    pytest.importorskip("mteb")
    run_examples("engine.evaluation.mteb", reranker=reranker)


def test_mteb_encoder_encodes_questions_as_questions(tiny: SimpleNamespace) -> None:
    mteb = pytest.importorskip("mteb")
    from mteb.types import PromptType

    from engine.evaluation.mteb import MtebEncoder

    encoder = BiEncoder(str(tiny.encoder), device="cpu", precision="fp32")
    wrapped = MtebEncoder(encoder)
    assert isinstance(wrapped, mteb.EncoderProtocol)
    batches = [{"text": ["le chat"]}, {"text": ["il pleut", "un ours"]}]
    texts = ["le chat", "il pleut", "un ours"]
    queries = wrapped.encode(batches, prompt_type=PromptType.query)
    np.testing.assert_allclose(queries, encoder.encode_queries(texts), atol=1e-5)
    passages = wrapped.encode(batches, prompt_type=PromptType.document)
    np.testing.assert_allclose(passages, encoder.encode_passages(texts), atol=1e-5)
    assert tuple(wrapped.similarity(queries, passages).shape) == (3, 3)


def test_mteb_cross_encoder_scores_pairs(reranker: CrossEncoder) -> None:
    pytest.importorskip("mteb")
    from engine.evaluation.mteb import MtebCrossEncoder

    scores = MtebCrossEncoder(reranker).predict([{"text": ["le chat", "un ours"]}], [{"text": ["il dort", "il pleut"]}])
    expected = reranker.score_pairs([("le chat", "il dort"), ("un ours", "il pleut")], activation="none")
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize(("task", "kind"), [("SyntecReranking", "reranker"), ("SyntecRetrieval", "encoder")])
def test_mteb_tasks_run_from_start_to_end(
    task: str, kind: str, reranker: CrossEncoder, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mteb = pytest.importorskip("mteb")
    from datasets import Dataset

    from engine.evaluation.benchmark import benchmark

    texts = ["le chat dort", "il pleut", "un ours mange", "la pluie tombe"]

    def load(self: object, *args: object, **options: object) -> None:
        corpus = Dataset.from_list([{"id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)])
        queries = Dataset.from_list([{"id": "q0", "text": "qui dort ?"}, {"id": "q1", "text": "quel temps ?"}])
        relevant = {"q0": {"d0": 1}, "q1": {"d1": 1, "d3": 1}}
        ranked = {query: [f"d{n}" for n in range(4)] for query in relevant} if kind == "reranker" else None
        split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": ranked}
        self.dataset = {"default": {"test": split}}  # type: ignore[attr-defined]
        self.data_loaded = True  # type: ignore[attr-defined]

    monkeypatch.setattr(type(mteb.get_task(task)), "load_data", load)
    models = {"reranker": reranker if kind == "reranker" else None, "encoder": str(tiny.encoder)}
    if kind == "reranker":
        models["encoder"] = None
    (table,) = benchmark(f"mteb:{task}", Path(), **models)
    assert 0 < table.rows[0].values["main score"] <= 100

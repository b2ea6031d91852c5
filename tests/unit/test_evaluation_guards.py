"""What measuring keeps apart: collections of other encoders and corpora, runs of other settings, runs of one name."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from engine.collection import Collection
from engine.errors import CollectionOutdated, EvaluationError, InvalidOption
from engine.evaluation import read_questions, write_run
from engine.evaluation.batch import run_questions
from engine.evaluation.benchmark import benchmark
from engine.records import SearchOptions
from engine.settings import Settings

pytest.importorskip("ir_measures")

TEXTS = [f"Le {animal} dort dans la {place}." for animal in ("chat", "loup", "ours") for place in ("maison", "rue")]
ROOT = Path(__file__).parents[2]
FP32 = Settings(precision="fp32")


@pytest.fixture
def beir(beir_of: Callable[..., Path]) -> Path:
    """6 passages, 4 questions and a fifth that only the qrels know."""
    return beir_of(TEXTS, TEXTS[:4], {n: n for n in range(5)})


@pytest.fixture(scope="module")
def other(tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tiny models under other names and hashes."""
    base = tmp_path_factory.mktemp("other")
    for kind in ("encoder", "reranker"):
        folder = shutil.copytree(getattr(tiny, kind), base / f"other-{kind}")
        (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    return SimpleNamespace(encoder=str(base / "other-encoder"), reranker=str(base / "other-reranker"))


@pytest.fixture
def collection(hybrid_of: Callable[[Sequence[str]], Collection]) -> Collection:
    return hybrid_of(TEXTS)


def test_vectors_of_another_encoder_never_come_beside_those_there(
    collection: Collection, other: SimpleNamespace
) -> None:
    before = dict(collection.memory)
    with pytest.raises(CollectionOutdated, match=r"another encoder than .*other-encoder"):
        collection.widen("hybrid", other.encoder)
    assert dict(collection.memory) == before


def test_benchmark_goes_on_in_its_folder_with_its_own_encoder_alone(
    beir: Path, tiny: SimpleNamespace, other: SimpleNamespace, tmp_path: Path
) -> None:
    def measured(stage: str, encoder: str, folder: str = "b") -> dict[str, float]:
        (table,) = benchmark(
            f"beir:{beir}", tmp_path / folder, reranker=None, first_stage=stage, encoder=encoder, settings=FP32
        )
        return dict(table.rows[0].values)

    dense = measured("dense", str(tiny.encoder))
    for stage in ("dense", "hybrid"):
        with pytest.raises(CollectionOutdated, match=r"made with encoder .*, not .*other-encoder"):
            measured(stage, other.encoder)
    assert measured("hybrid", str(tiny.encoder)) == measured("hybrid", str(tiny.encoder), "fresh")
    assert measured("dense", str(tiny.encoder)) == dense
    assert measured("bm25", other.encoder) == measured("bm25", other.encoder, "without")


def test_benchmark_refuses_the_collection_of_another_corpus(beir: Path, tmp_path: Path) -> None:
    def run() -> None:
        benchmark(f"beir:{beir}", tmp_path / "b", reranker=None)

    run()
    run()
    corpus = beir / "corpus.jsonl"
    corpus.write_text("".join(corpus.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(CollectionOutdated, match=r"not made of .*beir as it is now .*another --folder"):
        run()


def test_benchmark_says_what_scored_zero_and_refuses_a_limit_below_1(
    beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    asked = ("benchmark", f"beir:{beir}", "--folder", tmp_path / "b", "--no-rerank", "--format", "json")
    shown = fouille(*asked)
    (table,) = json.loads(shown.stdout)
    assert table["notices"] == ["bm25: 1 question of the qrels without a result in the run: scored zero (such as q4)"]
    assert table["notices"][0] in shown.stderr
    for limit in (0, -3):
        with pytest.raises(EvaluationError, match=f"a limit of {limit} "):
            fouille(*asked, "--limit", limit)


RERANKED = SearchOptions(k=3, first_stage="bm25", rerank=True)


def test_run_is_not_taken_up_under_another_precision_or_length(
    collection: Collection, beir: Path, tmp_path: Path
) -> None:
    def stop(part: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    questions, output = read_questions(beir), tmp_path / "r.trec"
    with pytest.raises(KeyboardInterrupt):
        run_questions(collection, questions, output, RERANKED, progress=stop)
    settings = Settings(precision="bf16", max_length=16)
    with (
        Collection.open(collection.path, settings=settings) as again,
        pytest.raises(EvaluationError, match=r"precision fp32 then, bf16 now, .*max_length 128 then, 16 now"),
    ):
        run_questions(again, questions, output, RERANKED)
    run_questions(collection, questions, output, RERANKED)
    options = json.loads((tmp_path / "r.trec.json").read_text())["options"]
    shaped = {"precision": "fp32", "max_length": 128, "candidates": 100, "interpolate": 0.0}
    assert shaped.items() <= options.items()


def test_fewer_candidates_than_documents_to_rank_are_told(collection: Collection, beir: Path, tmp_path: Path) -> None:
    questions = read_questions(beir)
    few = SearchOptions(k=3, candidates=2, first_stage="bm25", rerank=True)
    assert "3 candidates are reranked, not 2" in run_questions(collection, questions, tmp_path / "a", few).notices[0]
    assert not run_questions(collection, questions, tmp_path / "b", RERANKED).notices


def test_reranking_over_a_collection_heeds_what_it_remembers(
    collection: Collection, beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    write_run({f"q{n}": {"d0": 2.0, "d1": 1.0} for n in range(4)}, tmp_path / "first.trec")
    collection.remember(interpolate=3.0, long_passages="maxp")

    def shaped(*flags: object) -> tuple[float, str]:
        out = tmp_path / "out.trec"
        fouille("rerank", tmp_path / "first.trec", "--questions", beir, "-o", out, *flags)
        options = json.loads((tmp_path / "out.trec.json").read_text())["options"]
        return options["interpolate"], options["long_passages"]

    assert shaped("-c", collection.path) == (3.0, "maxp")
    assert shaped("-c", collection.path, "--interpolate", 1, "--long-passages", "truncate") == (1.0, "truncate")
    assert shaped("--corpus", beir, "--reranker", collection.memory["reranker"]) == (0.0, "truncate")


def test_values_tuned_for_another_stage_or_reranker_are_not_stored(
    collection: Collection, beir: Path, other: SimpleNamespace, fouille: Callable[..., Result]
) -> None:
    asked = ("tune", "-c", collection.path, "--questions", beir, "--qrels", beir, "--folds", 2)
    for flags in (("--reranker", other.reranker), ("--first-stage", "bm25")):
        with pytest.raises(InvalidOption, match=r"stored for it .*--dry-run"):
            fouille(*asked, *flags)
    assert "interpolate" not in collection.memory
    own = ("--reranker", collection.memory["reranker"], "--first-stage", "hybrid")
    assert fouille(*asked, *own).exit_code == 0


def test_tuning_is_one_document_of_json_and_one_table_of_csv(
    collection: Collection, beir: Path, fouille: Callable[..., Result]
) -> None:
    asked = ("tune", "-c", collection.path, "--questions", beir, "--qrels", beir, "--folds", 2, "--dry-run")
    shown = json.loads(fouille(*asked, "--no-rerank", "--format", "json").stdout)
    assert [stage["stage"] for stage in shown["stages"]] == ["bm25", "fusion"]
    assert {trial["stage"] for trial in shown["trials"]} == {"bm25", "fusion"}
    rows = list(csv.DictReader(io.StringIO(fouille(*asked, "--no-rerank", "--format", "csv").stdout)))
    assert len(rows) == len(shown["trials"])
    assert list(rows[0]) == ["stage", "k1", "b", "fusion_weight", "nDCG@10"]


def test_evaluate_tells_runs_of_one_name_apart_and_reads_a_file_once(
    tmp_path: Path, fouille: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run({"q1": {"a": 2.0, "b": 1.0}, "q2": {"a": 1.0}}, "s.trec")
    write_run({"q1": {"a": 1.0, "b": 2.0}, "q2": {"b": 1.0}}, "s.run")
    Path("qrels").write_text("q1 0 a 1\nq2 0 a 1\n")

    def shown(*arguments: object) -> list[str]:
        fixed = ("--qrels", "qrels", "--permutations", 9, "--format", "json")
        record = json.loads(fouille("evaluate", *arguments, *fixed).stdout)
        assert {one["run"] for one in record["comparison"]["differences"]} == {"s.run"}
        return [run["run"] for run in record["runs"]]

    assert shown("s.trec", "s.run", "--baseline", "s.trec") == ["s.trec", "s.run"]
    assert shown("s.trec", "s.run", "--baseline", tmp_path / "s.trec") == ["s.trec", "s.run"]
    assert shown("s.run", "--baseline", "s.trec") == ["s.trec", "s.run"]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_programs_read_is_utf_8_whatever_the_locale(tmp_path: Path, form: str) -> None:
    write_run({"été": {"a": 1.0}}, tmp_path / "r.trec")
    (tmp_path / "qrels").write_text("été 0 a 1\n", "utf-8")
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    asked = ("evaluate", "r.trec", "--qrels", "qrels", "--measures", "AP", "--per-question", "--format", form)
    done = subprocess.run([sys.executable, "-m", "cli", *asked], env=ascii_only, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "été" in done.stdout.decode()

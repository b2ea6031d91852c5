"""From a BEIR folder to measures, with tiny random models: batch runs, reranking, tuning, protocols, the commands."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import Result

from engine.collection import Collection
from engine.documents import open_source
from engine.errors import EvaluationError, FouilleError
from engine.evaluation import Qrels, Question, evaluate, read_qrels, read_questions, read_run
from engine.evaluation.batch import run_questions
from engine.evaluation.benchmark import benchmark
from engine.evaluation.mmarco import MMarco
from engine.evaluation.protocols import PROTOCOLS, published, tasks
from engine.evaluation.rerank import CollectionPassages, CorpusPassages, rerank
from engine.evaluation.tuning import Grid, _judge, tune
from engine.models import CrossEncoder
from engine.records import Document, SearchOptions
from engine.settings import Settings

pytest.importorskip("ir_measures")

ANIMALS = (
    "chat",
    "chien",
    "cheval",
    "loup",
    "ours",
    "renard",
    "lapin",
    "mouton",
    "canard",
    "corbeau",
    "souris",
    "tortue",
)
PLACES = ("maison", "jardin", "forêt", "rivière", "montagne")


def sentence(animal: str, place: str) -> str:
    return f"Le {animal} dort dans la {place} quand il pleut."


def questions() -> list[tuple[str, str]]:
    return [(f"q{n}", f"où dort le {animal} : {PLACES[n % 5]} ?") for n, animal in enumerate(ANIMALS)]


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 passages, 12 questions, one relevant passage each."""
    folder = tmp_path_factory.mktemp("beir") / "animaux"
    (folder / "qrels").mkdir(parents=True)
    rows = [(f"{a}-{p}", sentence(a, p)) for a in ANIMALS for p in PLACES]
    lines = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in rows]
    (folder / "corpus.jsonl").write_text("\n".join(lines), "utf-8")
    lines = [json.dumps({"_id": key, "text": text}) for key, text in questions()]
    (folder / "queries.jsonl").write_text("\n".join(lines), "utf-8")
    judged = [f"q{n}\t{animal}-{PLACES[n % 5]}\t1" for n, animal in enumerate(ANIMALS)]
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged), "utf-8")
    return folder


@pytest.fixture(scope="module")
def mmarco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small collection in mMARCO's file layout, with numbered passages and both candidate files."""
    folder = tmp_path_factory.mktemp("mmarco")

    def write(name: str, lines: list[str]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    texts = [sentence(a, p) for a in ANIMALS for p in PLACES]
    relevant = {n: 5 * n + n % 5 for n in range(12)}
    asked = [f"{100 + n}\t{text}" for n, (_, text) in enumerate(questions())]
    negatives = {n: [number for number in range(60) if number != relevant[n]][: 20 + n] for n in relevant}
    write("google/collections/french_collection.tsv", [f"{number}\t{text}" for number, text in enumerate(texts)])
    write("google/queries/dev/french_queries.dev.small.tsv", asked)
    write("google/queries/train/french_queries.train.tsv", [*asked, "999\tune question de plus ?"])
    write("qrels.dev.small.tsv", [f"{100 + n}\t0\t{passage}\t1" for n, passage in relevant.items()])
    groups = [{"qid": 100 + n, "pos": [passage], "neg": negatives[n]} for n, passage in relevant.items()]
    write("colbertv2-negatives.dev.small.jsonl", [json.dumps(group) for group in groups])
    triples = [f"{100 + n}\t{relevant[n]}\t{negative}" for n in relevant for negative in negatives[n]]
    write("msmarco-qidpidtriples.rnd-shuf.train-eval.tsv", triples)
    return folder


@pytest.fixture(scope="module")
def collection(beir: Path, tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    path = tmp_path_factory.mktemp("collections") / "animaux"
    # In fp32: scores that differ with the batch by bf16's rounding would order close passages otherwise each time.
    made = Collection.create(
        path,
        first_stage="hybrid",
        encoder=str(tiny.encoder),
        reranker=str(tiny.reranker),
        splitter="none",
        settings=Settings(precision="fp32"),
    )
    made.update([open_source(str(beir), columns=None)])
    with made:
        yield made


@pytest.fixture(scope="module")
def reranker(tiny: SimpleNamespace) -> CrossEncoder:
    return CrossEncoder(str(tiny.reranker), device="cpu", precision="fp32")


def asked_of(beir: Path) -> list[Question]:
    return read_questions(beir, only=read_qrels(beir))


BM25 = SearchOptions(k=20, first_stage="bm25", rerank=False)


def test_batch_run_says_what_the_searches_say(collection: Collection, beir: Path, tmp_path: Path) -> None:
    report = run_questions(collection, asked_of(beir), tmp_path / "r.trec", BM25)
    run = read_run(tmp_path / "r.trec")
    assert (report.questions, report.lines, report.without_hits) == (12, run.lines, 0)
    for question in asked_of(beir)[:3]:
        hits = collection.search(question.text, BM25).hits
        found = dict(zip(run[question.id].documents, run[question.id].scores.tolist(), strict=True))
        assert found == {hit.key: hit.score for hit in hits}


def test_batch_run_of_reranked_hits_holds_logits(collection: Collection, beir: Path, tmp_path: Path) -> None:
    options = SearchOptions(k=5, first_stage="bm25", rerank=True, candidates=10, interpolate=0.0)
    run_questions(collection, asked_of(beir)[:2], tmp_path / "r.trec", options)
    hits = collection.search(asked_of(beir)[0].text, options).hits
    logits = [hit.rerank_logit for hit in hits]
    assert read_run(tmp_path / "r.trec")["q0"].scores.tolist() == pytest.approx(logits, abs=1e-5)
    assert json.loads((tmp_path / "r.trec.json").read_text())["models"].keys() == {"reranker"}


def test_interrupted_batch_run_goes_on_and_equals_an_uninterrupted_one(
    collection: Collection, beir: Path, tmp_path: Path
) -> None:
    def stop(part: str, done: int, total: int | None) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_questions(collection, asked_of(beir), tmp_path / "r.trec", BM25, progress=stop)
    assert run_questions(collection, asked_of(beir), tmp_path / "r.trec", BM25).resumed == 5
    run_questions(collection, asked_of(beir), tmp_path / "whole.trec", BM25)
    assert (tmp_path / "r.trec").read_text() == (tmp_path / "whole.trec").read_text()


def test_key_that_no_run_can_hold_is_an_error(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add([Document("mes notes/un chat.txt", "Le chat dort.")])
        with pytest.raises(EvaluationError, match="whitespace"):
            run_questions(collection, [Question("q", "chat")], tmp_path / "r.trec", BM25)


def test_reranking_over_a_collection_equals_reranking_over_its_corpus(
    collection: Collection, beir: Path, reranker: CrossEncoder, tmp_path: Path
) -> None:
    run_questions(collection, asked_of(beir), tmp_path / "r.trec", BM25)
    run = read_run(tmp_path / "r.trec")
    for name, passages in (("a", CollectionPassages(collection)), ("b", CorpusPassages(str(beir)))):
        report = rerank(run, asked_of(beir), passages, reranker, tmp_path / name)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    assert report.pairs == run.lines
    first = read_run(tmp_path / "a")["q0"]
    texts = [sentence(*document.split("-")) for document in first.documents]
    assert first.scores.tolist() == pytest.approx(
        reranker.score(asked_of(beir)[0].text, texts, activation="none").tolist(), abs=1e-4
    )


GRID = Grid(k1=(0.9, 1.2), b=(0.4,), fusion_weight=(0.0, 0.5, 1.0), candidates=(5, 20), interpolate=(0.0, 4.0))


def test_tuning_tries_every_stage_and_its_values_can_be_stored(collection: Collection, beir: Path) -> None:
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=3)
    assert [stage.name for stage in tuning.stages] == ["bm25", "fusion", "rerank"]
    assert [len(stage.trials) for stage in tuning.stages] == [3, 4, 5]  # the values in use, then the grid's others
    for stage in tuning.stages:
        assert stage.trials[0].mean == stage.before
        assert stage.held_out <= max(trial.mean for trial in stage.trials) + 1e-12
    collection.remember(**tuning.chosen)
    collection.remember(**dict.fromkeys(tuning.chosen))


@pytest.mark.parametrize("depth", GRID.candidates)
def test_tuned_settings_score_what_a_search_with_them_scores(
    collection: Collection, beir: Path, tmp_path: Path, depth: int
) -> None:
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=3)
    values = {**tuning.stages[0].chosen, **tuning.stages[1].chosen}
    trial = next(one for one in tuning.stages[2].trials if one.setting == {"candidates": depth, "interpolate": 4.0})
    collection.remember(**values)
    try:
        options = SearchOptions(k=depth, candidates=depth, interpolate=4.0, rerank=True)
        run_questions(collection, asked_of(beir), tmp_path / "r.trec", options)
    finally:
        collection.remember(**dict.fromkeys(values))
    assert evaluate(tmp_path / "r.trec", read_qrels(beir), "nDCG@10").means["nDCG@10"] == pytest.approx(trial.mean)


def test_tuned_fusion_scores_what_a_search_with_it_scores(collection: Collection, beir: Path, tmp_path: Path) -> None:
    options = SearchOptions(k=30, candidates=30, rerank=False)  # deeper than the grid's candidates
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=3, options=options, measure="R@25")
    values = {**tuning.stages[0].chosen, **tuning.stages[1].trials[1].setting}
    collection.remember(**values)
    try:
        run_questions(collection, asked_of(beir), tmp_path / "r.trec", options)
    finally:
        collection.remember(**dict.fromkeys(values))
    measured = evaluate(tmp_path / "r.trec", read_qrels(beir), "R@25").means["R@25"]
    assert measured == pytest.approx(tuning.stages[1].trials[1].mean)


def test_tuning_on_too_few_questions_is_an_error(collection: Collection, beir: Path) -> None:
    with pytest.raises(EvaluationError, match="too few for 5 folds"):
        tune(collection, asked_of(beir)[:3], read_qrels(beir))


def test_small_dev_runs_from_start_to_end_in_two_tables(mmarco: Path, reranker: CrossEncoder, tmp_path: Path) -> None:
    full, given = benchmark("mmarco-fr-small-dev", tmp_path, reranker=reranker, data=mmarco, depth=30)
    assert [row.system for row in full.rows] == ["bm25", "bm25 + reranker"]
    assert full.rows[0].values["MRR@10"] > 50
    assert any("R@100" in notice and "of the 30 documents that the run ends at" in notice for notice in full.notices)
    assert [row.published for row in given.rows] == [False, True, True]
    assert given.rows[0].values["R@1000"] == 100
    assert given.rows[1].values["MRR@10"] == 34.26
    assert read_run(tmp_path / "bm25.trec")["100"].documents[0] == "0"


def test_train_500_runs_from_start_to_end(mmarco: Path, reranker: CrossEncoder, tmp_path: Path) -> None:
    # The depth is the first stage's: given candidates tie, and a cut would go by their ids.
    (table,) = benchmark("mmarco-fr-train500", tmp_path, reranker=reranker, data=mmarco, depth=1)
    assert table.measures == ("RPrec", "MRR@10", "R@10", "R@20", "R@50", "R@100")
    assert [row.published for row in table.rows] == [False] + [True] * 5
    assert table.rows[0].values["R@100"] == 100
    assert "published" in {row["figures"] for row in table.table()}


def test_protocols_never_share_a_table() -> None:
    assert {row.system for row in published("mmarco-fr-small-dev")}
    assert not published("beir:")
    assert PROTOCOLS["mmarco-fr-train500"].measures != PROTOCOLS["mmarco-fr-small-dev"].measures


def test_train_candidates_keep_500_questions_and_200_negatives(tmp_path: Path) -> None:
    lines = [f"{q}\tp{q}\t{n}" for n in range(210) for q in range(1, 504)]
    (tmp_path / "msmarco-qidpidtriples.rnd-shuf.train-eval.tsv").write_text("\n".join(lines))
    run, qrels = MMarco(tmp_path).train_candidates()
    assert len(run) == len(qrels) == 500
    assert len(run["7"].documents) == 201
    assert qrels["7"] == {"p7": 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mmarco-fr", "no protocol"), ("beir:", "no protocol"), ("mmarco-fr-train500", "has no msmarco-qidpidtriples")],
)
def test_protocol_or_data_that_is_not_there_is_an_error(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=reason):
        tasks(name, tmp_path)


def test_beir_protocol_takes_a_split_and_asks_for_one_in_its_own_words(beir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(beir, folder)
    shutil.copy(folder / "qrels" / "dev.tsv", folder / "qrels" / "train.tsv")
    assert [len(task.qrels) for task in tasks(f"beir:{folder}:dev")] == [12]
    with pytest.raises(EvaluationError, match=f"2 splits .*name one: beir:{folder}:dev or beir:{folder}:train"):
        tasks(f"beir:{folder}")
    for asked in (folder / "qrels" / "dev.tsv", tmp_path / "absent", ":dev"):
        with pytest.raises(EvaluationError, match=r"no BEIR folder.*beir:PATH:SPLIT"):
            tasks(f"beir:{asked}")


def test_beir_protocol_measures_the_first_stage_alone_and_a_limit(beir: Path, tmp_path: Path) -> None:
    (table,) = benchmark(f"beir:{beir}", tmp_path, reranker=None, limit=4)
    assert [row.system for row in table.rows] == ["bm25"]
    assert table.notices == ("the first 4 questions only",)
    pytest.importorskip("pandas")
    assert list(table.to_frame().columns) == ["system", "published", "nDCG@10", "MRR@10", "R@100"]


def test_mteb_refuses_a_limit_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(EvaluationError, match=r"mteb runs a task whole.*leave out --limit"):
        benchmark("mteb:SyntecRetrieval", tmp_path / "b", reranker=None, limit=5)
    assert not (tmp_path / "b").exists()


def test_candidates_without_a_reranker_are_nothing_to_measure(mmarco: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to measure"):
        benchmark("mmarco-fr-train500", tmp_path, reranker=None, data=mmarco)


@pytest.fixture
def output(fouille: Callable[..., Result]) -> Callable[..., str]:
    """What a command that ends well prints."""

    def call(*arguments: object) -> str:
        result = fouille(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_commands_run_rerank_and_evaluate_in_a_row(
    output: Callable[..., str], collection: Collection, beir: Path, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    bm25, second = tmp_path / "bm25.trec", tmp_path / "second.trec"
    output("run", beir, "-c", collection.path, "-o", bm25, "--first-stage", "bm25", "--no-rerank", "--qrels", beir)
    output("rerank", bm25, "--questions", beir, "--corpus", beir, "--reranker", tiny.reranker, "-o", second)
    compared = ("--qrels", beir, "--baseline", bm25, "--permutations", 50)
    shown = json.loads(output("evaluate", bm25, second, *compared, "--format", "json"))
    assert [run["run"] for run in shown["runs"]] == ["bm25", "second"]
    assert shown["comparison"]["baseline"] == "bm25"
    for form in ("text", "csv", "latex"):
        assert "nDCG@10" in output("evaluate", second, *compared, "--format", form)
    assert "q3" in output("evaluate", bm25, "--qrels", beir, "--per-question", "--format", "csv")


def test_command_tune_shows_and_stores(output: Callable[..., str], collection: Collection, beir: Path) -> None:
    arguments = ("tune", "-c", collection.path, "--questions", beir, "--qrels", beir, "--no-rerank", "--folds", 2)
    shown = output(*arguments, "--first-stage", "bm25", "--dry-run")
    assert "held out" in shown
    assert "k1" in shown
    assert collection.memory.get("k1") is None


def test_command_benchmark_shows_measured_and_published(
    output: Callable[..., str], mmarco: Path, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    shown = output(
        "benchmark", "mmarco-fr-train500", "--data", mmarco, "--reranker", tiny.reranker, "--folder", tmp_path
    )
    assert "measured" in shown
    assert "33.92" in shown


def test_interrupted_reranking_of_other_given_candidates_is_not_taken_up(
    mmarco: Path, reranker: CrossEncoder, tmp_path: Path
) -> None:
    def stop(part: str, done: int, total: int | None) -> None:
        if part == "pairs" and done:
            raise KeyboardInterrupt

    data = shutil.copytree(mmarco, tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        benchmark("mmarco-fr-train500", tmp_path / "b", reranker=reranker, data=data, progress=stop)
    triples = data / "msmarco-qidpidtriples.rnd-shuf.train-eval.tsv"
    triples.write_text("".join(triples.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(EvaluationError, match=r"other options is in the way: inputs\.run"):
        benchmark("mmarco-fr-train500", tmp_path / "b", reranker=reranker, data=data)


def test_command_evaluate_says_where_runs_differ_and_draws(
    fouille: Callable[..., Result], output: Callable[..., str], collection: Collection, beir: Path, tmp_path: Path
) -> None:
    for name, k in (("a", 5), ("b", 6)):
        options = ("-k", k, "--first-stage", "bm25", "--no-rerank", "--qrels", beir)
        output("run", beir, "-c", collection.path, "-o", tmp_path / name, *options)
    plot = tmp_path / "recall.svg"
    shown = fouille("evaluate", tmp_path / "a", tmp_path / "b", "--qrels", beir, "--plot", plot)
    assert "a and b differ in options.k: 5 / 6" in shown.stderr
    assert plot.exists()
    draw = ("--baseline", tmp_path / "a", "--permutations", 50, "--plot", tmp_path / "d.png")
    output("evaluate", tmp_path / "b", "--qrels", beir, *draw, "--plot-measure", "R@10")
    assert (tmp_path / "d.png").exists()
    for bad, reason in (
        (("--plot", tmp_path / "d.pdf"), r"\.png or \.svg"),
        ((*draw, "--plot-measure", "RR"), "none of the measures"),
    ):
        with pytest.raises(FouilleError, match=reason):
            output("evaluate", tmp_path / "b", "--qrels", beir, *bad)


def test_help_of_benchmark_names_every_protocol_and_its_measures() -> None:
    from engine.terminal.evaluation_commands.benchmark import PROTOCOLS as SHOWN

    text = " ".join(SHOWN.split())
    for protocol in PROTOCOLS.values():
        assert protocol.name in text
        assert " ".join(protocol.measures) in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("--depth", "0"), "less than 1"), (("--corpus", "x", "-c", "y"), "both --corpus and -c")],
)
def test_command_rerank_refuses_what_makes_no_sense(
    fouille: Callable[..., Result], arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(FouilleError, match=reason):
        fouille("rerank", tmp_path / "r", "--questions", "q", "-o", tmp_path / "o", *arguments)


def test_mmarco_that_cannot_be_downloaded_is_one_line() -> None:
    with pytest.raises(EvaluationError, match=r"cannot be downloaded: .*--data"):
        MMarco().dev_qrels()
    with pytest.raises(EvaluationError, match="on no hub"):
        MMarco().train_candidates()
    with pytest.raises(EvaluationError, match="not a folder"):
        MMarco("nulle/part")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("msmarco-qidpidtriples.rnd-shuf.train-eval.tsv", "1\t2\n", ":1: three ids"),
        ("colbertv2-negatives.dev.small.jsonl", '{"qid": 1, "pos": [2]}\n', ":1: the record needs"),
        ("colbertv2-negatives.dev.small.jsonl", '{"qid": 1, "pos": [], "neg": [2]}\n', "no question with a relevant"),
    ],
)
def test_bad_candidate_file_is_refused(name: str, text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    mmarco = MMarco(tmp_path)
    with pytest.raises(EvaluationError, match=reason):
        mmarco.train_candidates() if "triples" in name else mmarco.dev_candidates()


def test_tuning_becomes_a_frame(collection: Collection, beir: Path) -> None:
    pytest.importorskip("pandas")
    options = SearchOptions(first_stage="dense", rerank=True)
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=2, options=options)
    assert [stage.name for stage in tuning.stages] == ["rerank"]
    assert len(tuning.to_frame()) == len(tuning.stages[0].trials)


def test_a_setting_is_judged_on_questions_that_did_not_choose_it() -> None:
    folds, settings = np.array([0, 0, 1, 1]), [{"b": 0.1}, {"b": 0.2}, {"b": 0.3}]
    # Each fold's questions choose the setting that is the worst for the other's.
    stage = _judge("bm25", settings, np.array([[0.5] * 4, [1.0, 1, 0, 0], [0.0, 0, 1, 1]]), folds, seed=0)
    assert (stage.before, stage.held_out, stage.chosen) == (0.5, 0.0, {"b": 0.1})
    assert stage.p == pytest.approx(2 / 16, abs=0.02)
    stage = _judge("bm25", settings, np.array([[0.5] * 4, [0.75] * 4, [1.0, 0, 1, 0]]), folds, seed=0)
    assert (stage.held_out, stage.chosen) == (0.75, {"b": 0.2})
    # No better than what is in use: that stays.
    stage = _judge("bm25", settings[:2], np.array([[0.5] * 4, [1.0, 0, 0.75, 0.75]]), folds, seed=0)
    assert stage.chosen == {"b": 0.1}


def test_tuning_ranks_a_document_by_its_best_passage(tmp_path: Path) -> None:
    words = ("loup", "chat", "lion", "ours")
    split = [Document(f"split-{word}", f"{word} {word} {word}\n\n{word} pomme poire prune figue") for word in words]
    whole = [Document(f"whole-{word}", f"{word} {word} cerise") for word in words]
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:5:0") as collection:
        collection.add([*split, *whole])
        questions = [Question(word, word) for word in words]
        qrels = Qrels({word: {f"split-{word}": 1} for word in words})
        options = SearchOptions(first_stage="bm25", rerank=False)
        tuning = tune(collection, questions, qrels, grid=Grid((0.9,), (0.4,)), options=options, measure="RR", folds=2)
    assert [trial.mean for trial in tuning.stages[0].trials] == [1.0, 1.0]


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_every_weight_of_the_fusion_scores_what_a_search_with_it_scores(
    collection: Collection, beir: Path, tmp_path: Path, weight: float
) -> None:
    options = SearchOptions(k=8, candidates=8, rerank=False)  # few: each side finds what the other does not
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=3, options=options, measure="RR@8")
    trial = next(one for one in tuning.stages[1].trials if one.setting == {"fusion_weight": weight})
    values = {**tuning.stages[0].chosen, **trial.setting}
    collection.remember(**values)
    try:
        run_questions(collection, asked_of(beir), tmp_path / "r.trec", options)
    finally:
        collection.remember(**dict.fromkeys(values))
    assert evaluate(tmp_path / "r.trec", read_qrels(beir), "RR@8").means["RR@8"] == pytest.approx(trial.mean)


def test_tuned_reranking_alone_scores_what_a_search_scores(collection: Collection, beir: Path, tmp_path: Path) -> None:
    tuning = tune(collection, asked_of(beir), read_qrels(beir), grid=GRID, folds=3, measure="RR")
    values = {**tuning.stages[0].chosen, **tuning.stages[1].chosen}
    trial = next(one for one in tuning.stages[2].trials if one.setting == {"candidates": 20, "interpolate": 0.0})
    collection.remember(**values)
    try:
        options = SearchOptions(k=20, candidates=20, interpolate=0.0, rerank=True)
        run_questions(collection, asked_of(beir), tmp_path / "r.trec", options)
    finally:
        collection.remember(**dict.fromkeys(values))
    assert evaluate(tmp_path / "r.trec", read_qrels(beir), "RR").means["RR"] == pytest.approx(trial.mean)


def test_the_script_of_the_readmes_table_runs_the_chain_and_scores_candidates_once(
    beir: Path, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "work"
    shutil.copytree(beir, data / "piaf")
    script = [sys.executable, "-m", "tests.benchmarks.quality", "--sets", "piaf", "--candidates", "20"]
    models = ["--encoder", tiny.encoder, "--reranker", tiny.reranker, "--data", data, "--folder", folder]

    def table(*options: str) -> tuple[list[list[str]], str]:
        command = [*script, *map(str, models), *options]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
        lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
        return lines, done.stderr

    (header, row, mean), told = table("--interpolate", "0")
    assert header[1::2] == ["bm25", "dense", "hybrid"]
    assert header[2::2] == [f"{stage}+rerank, W = 0" for stage in header[1::2]]
    assert "pairs" in told
    for system, cell in zip(header[1:], row[1:], strict=True):
        run = folder / "piaf" / f"{system.replace(', W = ', '-')}.trec"
        means = evaluate(run, read_qrels(data / "piaf"), "MRR@10 nDCG@10 R@100").means
        assert cell.replace("†", "").replace("‡", "") == " / ".join(f"{100 * value:.1f}" for value in means.values())
    assert mean[0] == "mean"

    (header, *_), told = table("--interpolate", "0", "1", "--systems", "bm25+rerank", "hybrid", "--measures", "RR")
    assert header[1:] == ["bm25", "bm25+rerank, W = 0", "bm25+rerank, W = 1", "hybrid"]
    assert "pairs" in told  # the union of other first stages is another

    (header, *_), told = table("--interpolate", "2", "--systems", "bm25+rerank", "--measures", "RR")
    assert header[1:] == ["bm25", "bm25+rerank, W = 2"]
    assert "pairs" not in told

"""What the measuring commands say and refuse: how a run was made, how two differ, flags that do not go together."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import Result

import engine.evaluation.batch
from engine.collection import Collection
from engine.errors import EvaluationError, FouilleError, InvalidOption
from engine.evaluation import Question, read_qrels, read_questions, write_run
from engine.evaluation.batch import run_questions
from engine.evaluation.provenance import Provenance, write_provenance
from engine.evaluation.tuning import Grid, tune
from engine.records import Document, SearchOptions

pytest.importorskip("ir_measures")

ANIMALS = ("chat", "chien", "loup", "ours", "renard", "lapin")
TEXTS = [f"Le {animal} dort dans la {place}." for animal in ANIMALS for place in ("maison", "rue")]
BM25 = SearchOptions(k=5, first_stage="bm25", rerank=False)
GRID = Grid(k1=(1.2,), b=(0.4,), fusion_weight=(0.5,), candidates=(5,), interpolate=(0.0, 1.0))


@pytest.fixture
def beir(beir_of: Callable[..., Path]) -> Path:
    """12 passages, 6 questions, of which the qrels judge 4."""
    questions = [f"où dort le {animal} ?" for animal in ANIMALS]
    return beir_of(TEXTS, questions, {n: 2 * n for n in range(4)})


@pytest.fixture
def collection(hybrid_of: Callable[[Sequence[str]], Collection]) -> Collection:
    return hybrid_of(TEXTS)


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 a 1\n" for n in range(12)))
    return tmp_path / "qrels"


def ranked(path: Path, *documents: str) -> Path:
    """A run that answers all 12 questions of `qrels` with these documents."""
    scores = {document: -float(place) for place, document in enumerate(documents)}
    write_run({f"q{n}": scores for n in range(12)}, path)
    return path


def recorded(path: Path, **sections: object) -> Path:
    """A run with a provenance."""
    known = {"collection": {}, "models": {}, "options": {}, "inputs": {}, **sections}
    write_provenance(ranked(path, "a", "b"), Provenance("run", **known))
    return path


def options_of(run: Path) -> dict[str, object]:
    return dict(json.loads(Path(f"{run}.json").read_text())["options"])


def stopped(part: str, done: int, total: int | None) -> None:
    if done:
        raise KeyboardInterrupt


# How a run was made --------------------------------------------------------------------------------------------------


def test_run_says_which_parameters_its_first_stage_had(collection: Collection, beir: Path, tmp_path: Path) -> None:
    def made(stage: str) -> dict[str, object]:
        options = SearchOptions(k=5, first_stage=stage, rerank=False)
        run_questions(collection, read_questions(beir), tmp_path / stage, options)
        return {name: options_of(tmp_path / stage).get(name) for name in ("k1", "b", "fusion_weight")}

    assert made("bm25") == {"k1": 1.2, "b": 0.75, "fusion_weight": None}
    assert made("dense") == {"k1": None, "b": None, "fusion_weight": None}
    assert made("hybrid") == {"k1": 1.2, "b": 0.75, "fusion_weight": 0.75}
    collection.remember(k1=0.9, b=0.3, fusion_weight=0.4)
    assert made("hybrid") == {"k1": 0.9, "b": 0.3, "fusion_weight": 0.4}


def test_first_stage_of_a_setting_is_for_collections_that_have_it(
    beir: Path, tmp_path: Path, fouille: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUILLE_FIRST_STAGE", "dense")
    with Collection.create(tmp_path / "lexical", first_stage="bm25") as lexical:
        lexical.add([Document(f"d{n}", text) for n, text in enumerate(TEXTS)])
    asked = ["-c", tmp_path / "lexical", "--questions", beir, "--qrels", beir]
    run = ("run", beir, "-c", tmp_path / "lexical", "--no-rerank")
    assert "(bm25)" in fouille(*run, "-o", tmp_path / "r.trec").stderr
    with pytest.raises(InvalidOption, match="no dense index"):  # a flag is meant
        fouille(*run, "-o", tmp_path / "s.trec", "--first-stage", "dense")
    assert "bm25" in fouille("tune", *asked, "--no-rerank", "--folds", 2, "--dry-run").stdout


def test_rerank_takes_what_was_tuned_for_the_reranker_it_was_tuned_with(
    collection: Collection, beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    run_questions(collection, read_questions(beir), tmp_path / "r.trec", BM25)
    collection.remember(interpolate=1.5)
    other = shutil.copytree(_reranker(collection), tmp_path / "autre")
    for name, weight in ((_reranker(collection), 1.5), (other, 0.0)):
        command = ("rerank", tmp_path / "r.trec", "--questions", beir, "-c", collection.path, "--reranker", name)
        fouille(*command, "-o", tmp_path / "s.trec", "--restart")
        assert options_of(tmp_path / "s.trec")["interpolate"] == weight


def test_run_is_not_taken_up_after_tuning_and_goes_on_without(
    collection: Collection, beir: Path, tmp_path: Path
) -> None:
    asked, output = read_questions(beir), tmp_path / "r.trec"
    with pytest.raises(KeyboardInterrupt):
        run_questions(collection, asked, output, BM25, progress=stopped)
    collection.remember(k1=0.9, b=0.3)
    with pytest.raises(EvaluationError, match=r"options\.k1 1\.2 then, 0\.9 now, options\.b 0\.75 then, 0\.3 now"):
        run_questions(collection, asked, output, BM25)
    collection.remember(k1=None, b=None)
    assert run_questions(collection, asked, output, BM25).resumed == 1


def test_precision_of_drafts_stands_only_where_some_candidates_are_drafted(
    collection: Collection, beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fouille: Callable[..., Result]
) -> None:
    reranker = collection.shelf.reranker(collection.memory["reranker"])
    monkeypatch.setattr(reranker, "draft_precision", "bf16")
    asked = read_questions(beir)
    for name, candidates in (("some", 12), ("all", 3)):
        options = SearchOptions(k=3, candidates=candidates, first_stage="bm25", rerank=True)
        run_questions(collection, asked, tmp_path / name, options)
    assert options_of(tmp_path / "some")["draft_precision"] == "bf16"
    assert "draft_precision" not in options_of(tmp_path / "all")
    fouille("rerank", tmp_path / "all", "--questions", beir, "-c", collection.path, "-o", tmp_path / "second")
    assert "draft_precision" not in options_of(tmp_path / "second")


def test_plan_of_a_run_is_read_at_one_moment(
    collection: Collection, beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, steady = engine.evaluation.batch.plan, []

    def watched(reader, options):
        steady.append(reader.catalog._connection.in_transaction)
        return plan(reader, options)

    monkeypatch.setattr(engine.evaluation.batch, "plan", watched)
    run_questions(collection, read_questions(beir), tmp_path / "r.trec", BM25)
    assert steady == [True]


def test_run_ends_by_saying_what_answered(collection: Collection, beir: Path, fouille: Callable[..., Result]) -> None:
    asked = ("run", beir, "-c", collection.path, "-o", beir / "r.trec", "-k", 5)
    alone = fouille(*asked, "--first-stage", "bm25", "--no-rerank").stderr.splitlines()[-1]
    assert alone.startswith("fouille: 6 questions, 30 lines (bm25), ")
    both = fouille(*asked, "--rerank").stderr.splitlines()[-1]
    assert both.startswith("fouille: 6 questions, 30 lines (hybrid, reranked by reranker), ")


def test_run_that_is_replaced_is_told_of_where_it_was_made_otherwise(
    collection: Collection, beir: Path, fouille: Callable[..., Result]
) -> None:
    output = beir / "r.trec"

    def said(k: int, *flags: object) -> str:
        done = fouille("run", beir, "-c", collection.path, "-o", output, "-k", k, "--first-stage", "bm25", *flags)
        return "".join(line for line in done.stderr.splitlines() if "replaced a run" in line)

    alone = "--no-rerank"
    assert [said(3, alone), said(3, alone)] == ["", ""]
    assert said(5, alone) == f"fouille: {output} replaced a run made with other options: k 3"
    # The fingerprint of the questions asked before stands behind "questions".
    assert said(5, alone, "--qrels", beir).startswith(
        f"fouille: {output} replaced a run made with other inputs: questions "
    )
    assert "no candidates" in said(5, "--rerank", "--qrels", beir)
    assert said(5, alone, "--qrels", beir).endswith("; other models: reranker " + _hash(collection))
    collection.delete(["d0"])
    assert "other collection: documents 12, passages 12, sequence 1" in said(5, alone, "--qrels", beir)
    Path(f"{output}.json").write_text("of something else")
    assert said(3, alone, "--qrels", beir) == ""


def _hash(collection: Collection) -> str:
    return f"{collection.shelf.reranker(collection.memory['reranker']).hash[:12]}…"


def test_reranking_that_replaces_another_is_told_of(beir: Path, collection: Collection, tmp_path: Path) -> None:
    from engine.evaluation import Run
    from engine.evaluation.rerank import CorpusPassages, rerank

    model, run = collection.shelf.reranker(collection.memory["reranker"]), Run({"q0": {"d0": 2.0, "d1": 1.0}})

    def notices(depth: int) -> tuple[str, ...]:
        asked = read_questions(beir)[:1]
        return rerank(run, asked, CorpusPassages(str(beir)), model, tmp_path / "out", depth=depth).notices

    assert notices(2) == ()
    assert notices(1) == (f"{tmp_path / 'out'} replaced a run made with other options: depth 2",)


def test_keys_that_no_run_can_hold_are_named_before_the_first_search(tmp_path: Path, monkeypatch) -> None:
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add([Document(key, "Le chat dort.") for key in ("a.txt", "b c.txt", "b\u00a0d.txt")])
        asked = [Question("q", "chat")]
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "search_many", None)
            with pytest.raises(EvaluationError, match=r"c: 2 of 3 documents .* 'b c.txt' holds whitespace .*--in"):
                run_questions(collection, asked, tmp_path / "r.trec", BM25)
        options = SearchOptions(k=5, first_stage="bm25", rerank=False, keys="a*")
        assert run_questions(collection, asked, tmp_path / "r.trec", options).lines == 1


# Which questions -----------------------------------------------------------------------------------------------------


def test_rerank_asks_only_judged_questions_as_run_does(
    collection: Collection, beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    def made(name: str, *arguments: object) -> dict[str, str]:
        assert fouille(*arguments, "-c", collection.path, "-o", tmp_path / name).exit_code == 0
        return dict(json.loads((tmp_path / f"{name}.json").read_text())["inputs"])

    flags = ("-k", 5, "--first-stage", "bm25", "--no-rerank")
    judged = made("judged", "run", beir, "--qrels", beir, *flags)["questions"]
    assert made("all", "run", beir, *flags)["questions"] != judged
    second = made("second", "rerank", tmp_path / "all", "--questions", beir, "--qrels", beir)
    assert second["questions"] == judged
    assert {line.split()[0] for line in (tmp_path / "second").read_text().splitlines()} == {"q0", "q1", "q2", "q3"}
    # What is not reranked makes no difference either.
    assert made("third", "rerank", tmp_path / "judged", "--questions", beir)["questions"] == judged


def test_rerank_refuses_qrels_that_judge_nothing_of_the_run(
    collection: Collection, beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    write_run({"q5": {"d0": 1.0}}, tmp_path / "r")
    with pytest.raises(EvaluationError, match="none of the run's questions is judged"):
        fouille("rerank", tmp_path / "r", "--questions", beir, "--qrels", beir, "-c", collection.path, "-o", beir / "o")


# How two runs differ -------------------------------------------------------------------------------------------------


def differing(fouille: Callable[..., Result], qrels: Path, *runs: object) -> list[str]:
    shown = fouille("evaluate", *runs, "--qrels", qrels, "--measures", "AP", "--permutations", 9, "--baseline", runs[0])
    return shown.stderr.splitlines()


def test_first_stage_and_its_reranking_are_compared_without_a_word(
    collection: Collection, beir: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    first, second = tmp_path / "bm25.trec", tmp_path / "rr.trec"
    fouille("run", beir, "-c", collection.path, "-o", first, "--first-stage", "bm25", "--no-rerank", "--qrels", beir)
    fouille("rerank", first, "--questions", beir, "--corpus", beir, "--reranker", _reranker(collection), "-o", second)
    assert differing(fouille, beir, first, second) == []
    assert differing(fouille, beir, second, first) == []


def _reranker(collection: Collection) -> str:
    return str(collection.memory["reranker"])


def test_what_makes_a_comparison_unfair_is_told_a_line_each(
    qrels: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    one = recorded(
        tmp_path / "one",
        collection={"name": "c", "documents": 60, "sequence": 3, "k1": 1.2},
        models={"l6": "a" * 64, "me5": "b" * 64},
        options={"k": 10, "precision": "fp32", "interpolate": 1.0, "k1": 1.2, "keys": "x*"},
        inputs={"questions": "c" * 64},
    )
    other = recorded(
        tmp_path / "other",
        collection={"name": "d", "documents": 61, "sequence": 9},
        models={"l6": "d" * 64, "l12": "e" * 64},
        options={"k": 10, "precision": "bf16", "interpolate": 0.5, "k1": 0.9, "max_length": 256},
        inputs={"questions": "f" * 64},
    )
    between = "fouille: one and other differ in"
    shown = fouille("evaluate", one, other, "--qrels", qrels, "--measures", "AP").stdout
    assert shown.split("\n\n")[1].split("\n") == [
        "made with             one            other",
        "collection.name       c              d",
        "collection.documents  60             61",
        "collection.sequence   3              9",
        "collection.k1         1.2            -",
        "models.l6             aaaaaaaaaaaa…  dddddddddddd…",
        "models.me5            bbbbbbbbbbbb…  -",
        "options.precision     fp32           bf16",
        "options.interpolate   1.0            0.5",
        "options.k1            1.2            0.9",
        "options.keys          x*             -",
        "inputs.questions      cccccccccccc…  ffffffffffff…",
        "models.l12            -              eeeeeeeeeeee…",
        "options.max_length    -              256",
        "",
    ]
    record = fouille("evaluate", one, other, "--qrels", qrels, "--measures", "AP", "--format", "json").stdout
    assert json.loads(record)["made_with"]["options.k1"] == {"one": 1.2, "other": 0.9}
    assert differing(fouille, qrels, one, other) == [
        f"{between} collection.documents: 60 / 61",
        f"{between} models.l6: aaaaaaaaaaaa… / dddddddddddd…",
        f"{between} options.precision: fp32 / bf16",
        f"{between} options.keys: x* / not set",
        f"{between} inputs.questions: cccccccccccc… / ffffffffffff… "
        "(if only one asked unjudged questions too: run and rerank take --qrels)",
    ]


def test_runs_are_held_against_the_baseline_and_the_list_of_differences_ends(
    qrels: Path, tmp_path: Path, fouille: Callable[..., Result]
) -> None:
    runs = [recorded(tmp_path / f"r{k}", options={"k": k}) for k in range(16)]
    shown = fouille("evaluate", *runs, "--qrels", qrels, "--measures", "AP", "--baseline", runs[3], "--permutations", 9)
    lines = shown.stderr.splitlines()
    assert lines[0] == "fouille: r3 and r0 differ in options.k: 3 / 0"
    assert (len(lines), lines[-1]) == (13, "fouille: and in 3 more")


# Flags and formats of evaluate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--plot-kind", "recall"), "--plot-kind: says nothing without --plot"),
        (("--plot-measure", "AP"), "--plot-measure: says nothing without --plot"),
        (("--plot", "p.svg", "--plot-kind", "differences"), "--plot-kind differences: says nothing without --baseline"),
        (("--plot", "p.svg", "--plot-measure", "AP"), "--plot-measure: says nothing without --plot-kind differences"),
        (("--seed", "0"), "--seed: says nothing without --baseline"),
        (("--permutations", "9"), "--permutations: says nothing without --baseline"),
        (("--baseline", "b", "--plot", "p.svg", "--plot-measure", "RR"), "--plot-measure RR: is none of the measures"),
        (("other", "--baseline", "b", "--plot", "p.svg"), "p.svg: a plot of differences needs a baseline and one"),
        (("--baseline", "r"), "r: no run to compare with the baseline"),
        (("--measures", "nope"), "no measure 'nope'"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_anything_is_read(
    flags: tuple[str, ...], reason: str, fouille: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FouilleError) as refused:
        fouille("evaluate", "r", *flags, "--qrels", "nowhere")
    assert str(refused.value).startswith(reason)


def compared(fouille: Callable[..., Result], qrels: Path, tmp_path: Path, *flags: object) -> str:
    base, better = ranked(tmp_path / "ba_se.trec", "b", "a"), ranked(tmp_path / "better.trec", "a", "b")
    fixed = ("--qrels", qrels, "--measures", "AP RR", "--permutations", 999)
    return fouille("evaluate", base, better, "--baseline", base, *fixed, *flags).stdout


def test_csv_of_a_comparison_holds_the_runs_and_then_the_differences(
    fouille: Callable[..., Result], qrels: Path, tmp_path: Path
) -> None:
    runs, differences = compared(fouille, qrels, tmp_path, "--format", "csv").split("\n\n")
    rows = list(csv.DictReader(runs.splitlines()))
    assert [(row["run"], float(row["AP"]), row["questions"]) for row in rows] == [
        ("ba_se", 0.5, "12"),
        ("better", 1.0, "12"),
    ]
    rows = list(csv.DictReader(differences.splitlines()))
    assert [(row["run"], row["measure"]) for row in rows] == [("better", "AP"), ("better", "RR")]


def test_csv_of_the_questions_is_one_table(fouille: Callable[..., Result], qrels: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(compared(fouille, qrels, tmp_path, "--format", "csv", "--per-question").splitlines()))
    assert len(rows) == 24


def test_latex_says_what_it_needs_and_what_the_dagger_means(
    fouille: Callable[..., Result], qrels: Path, tmp_path: Path
) -> None:
    shown = compared(fouille, qrels, tmp_path, "--format", "latex")
    assert shown.startswith("% needs booktabs\n\n\\begin{tabular}")
    assert r"$^{\dagger}$ differs from ba\_se: randomisation test, $p < 0.05$ after Holm's correction" in shown
    assert shown.count(r"\begin{tabular}") == 2
    assert "question &" not in shown  # the questions that changed most are no table of a paper


# Tuning --------------------------------------------------------------------------------------------------------------


def test_a_single_fold_is_no_cross_validation(
    collection: Collection, beir: Path, fouille: Callable[..., Result]
) -> None:
    with pytest.raises(InvalidOption, match=r"^--folds: at least 2$"):
        fouille("tune", "-c", collection.path, "--questions", beir, "--qrels", beir, "--folds", 1)


@pytest.mark.parametrize("part", ["k1 and b", "tokens"])
def test_tuning_sees_the_collection_as_it_was_when_it_began(collection: Collection, beir: Path, part: str) -> None:
    def tuned(progress: Callable[[str, int, int | None], None] | None = None) -> list[float]:
        asked = read_questions(beir)
        found = tune(collection, asked, read_qrels(beir), grid=GRID, folds=2, progress=progress)
        return [trial.mean for stage in found.stages for trial in stage.trials]

    def empty(name: str, done: int, total: int | None) -> None:
        if name == part:
            with Collection.open(collection.path, shelf=collection.shelf) as other:
                other.delete(f"d{n}" for n in range(len(TEXTS)))

    before = tuned()
    assert tuned(empty) == pytest.approx(before)

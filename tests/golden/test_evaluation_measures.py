"""Measures equal those of trec_eval (through pytrec_eval) and ranx on the same random runs and qrels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation import Evaluation, compare, evaluate, read_qrels, read_run, write_qrels, write_run

pytrec_eval = pytest.importorskip("pytrec_eval")
pytest.importorskip("ir_measures")

Scores = dict[str, dict[str, float]]
Grades = dict[str, dict[str, int]]

TREC_EVAL = {
    "Rprec": "Rprec",
    "RR": "recip_rank",
    "AP": "map",
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "R@10": "recall_10",
    "R@100": "recall_100",
    "P@10": "P_10",
    "P(rel=2)@5": "P_5",
}


def random_case(seed: int) -> tuple[Scores, Grades]:
    """40 questions: many ties, grades -1 to 3, questions on one side alone, some without a relevant document."""
    draw = np.random.default_rng(seed)
    names = [f"{prefix}{number}" for number in range(150) for prefix in ("d", "D-", "é")]
    run: Scores = {}
    qrels: Grades = {}
    for number in range(40):
        question = f"q{number}"
        if number % 7:
            found = draw.choice(names, size=int(draw.integers(1, 130)), replace=False)
            run[question] = {str(name): float(draw.integers(0, 12)) / 4 for name in found}
        if number % 5:
            judged = draw.choice(names, size=int(draw.integers(1, 60)), replace=False)
            grades = draw.choice([-1, 0, 0, 1, 1, 2, 3], size=len(judged)) if number % 9 else np.zeros(len(judged), int)
            qrels[question] = {str(name): int(grade) for name, grade in zip(judged, grades, strict=True)}
    return run, qrels


def reference(run: Scores, qrels: Grades, measure: str, level: int = 1) -> dict[str, float]:
    """trec_eval's value for each question of the qrels; zero where the run has none (`-c`)."""
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}, relevance_level=level).evaluate(run)
    return {question: found.get(question, {}).get(measure, 0.0) for question in qrels}


@pytest.mark.parametrize("seed", range(6))
def test_every_measure_of_every_question_equals_trec_eval(seed: int) -> None:
    run, qrels = random_case(seed)
    ours = evaluate(run, qrels, list(TREC_EVAL))
    for name, theirs in TREC_EVAL.items():
        expected = reference(run, qrels, theirs, 2 if "rel=2" in name else 1)
        assert ours.questions == tuple(expected)
        np.testing.assert_allclose(ours.scores[name], list(expected.values()), rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_reciprocal_rank_at_10_breaks_ties_as_trec_eval_does(seed: int) -> None:
    run, qrels = random_case(seed)
    expected = [value if value >= 0.1 - 1e-9 else 0.0 for value in reference(run, qrels, "recip_rank").values()]
    np.testing.assert_allclose(evaluate(run, qrels, "MRR@10").scores["MRR@10"], expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_the_same_through_files(seed: int, tmp_path: Path) -> None:
    run, qrels = random_case(seed)
    write_run(run, tmp_path / "run.trec.gz")
    write_qrels(qrels, tmp_path / "qrels.txt")
    write_qrels(qrels, tmp_path / "qrels.tsv", layout="beir")
    direct = evaluate(run, qrels)
    for name in ("qrels.txt", "qrels.tsv"):
        filed = evaluate(read_run(tmp_path / "run.trec.gz"), read_qrels(tmp_path / name))
        for measure, values in direct.scores.items():
            np.testing.assert_array_equal(filed.scores[measure], values)


def test_scores_that_differ_only_as_doubles_tie_as_in_trec_eval() -> None:
    run = {"q": {"a": 1.0 + 1e-12, "b": 1.0}}
    qrels = {"q": {"a": 1}}
    assert evaluate(run, qrels, "RR").means["RR"] == reference(run, qrels, "recip_rank")["q"] == 0.5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(2))
def test_measures_equal_ranx(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling ranx takes a minute, running it as Python a second
    ranx = pytest.importorskip("ranx")
    run, qrels = random_case(seed)
    # ranx breaks no ties by id and wants a relevant document for each question: it is given trec_eval's order, and the
    # questions that have one. Questions on one side alone are its `make_comparable`.
    qrels = {q: grades for q, grades in qrels.items() if max(grades.values()) > 0}
    positive = {q: {d: grade for d, grade in grades.items() if grade > 0} for q, grades in qrels.items()}
    places = {
        q: {d: -float(place) for place, (_, d) in enumerate(sorted(((s, d) for d, s in found.items()), reverse=True))}
        for q, found in run.items()
    }
    pairs = {"nDCG@10": "ndcg@10", "AP": "map", "MRR@10": "mrr@10", "R@10": "recall@10", "P@10": "precision@10"}
    ours = evaluate(run, qrels, [*pairs, "RPrec"])
    assert ours.unanswered
    assert ours.unjudged
    measures = [*pairs.values(), "r-precision"]
    theirs = ranx.evaluate(ranx.Qrels(positive), ranx.Run(places), measures, make_comparable=True)
    for name, other in {**pairs, "RPrec": "r-precision"}.items():
        assert ours.means[name] == pytest.approx(theirs[other], abs=1e-9), name


def evaluation_of(name: str, values: np.ndarray) -> Evaluation:
    return Evaluation(name, tuple(f"q{number}" for number in range(len(values))), {"AP": values})


@pytest.mark.parametrize(
    "draw_delta",
    [
        lambda draw: draw.normal(0.02, 0.2, 60),
        lambda draw: draw.choice([0.0, 0.0, 0.5, -0.5, 1.0], 45),
    ],
    ids=["normal", "few-values"],
)
def test_p_values_agree_with_scipy(draw_delta: Callable[[np.random.Generator], np.ndarray]) -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(5)
    delta = draw_delta(draw)
    baseline = draw.random(len(delta))
    runs = evaluation_of("base", baseline), evaluation_of("autre", baseline + delta)
    (difference,) = compare(*runs, permutations=20_000, seed=3).differences
    assert difference.t_p == pytest.approx(stats.ttest_rel(baseline + delta, baseline).pvalue, rel=1e-9)
    exact = stats.permutation_test(
        (delta,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert difference.randomisation_p == pytest.approx(exact.pvalue, abs=0.015)

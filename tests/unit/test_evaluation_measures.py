"""What evaluate and compare count, warn about and refuse; numbers against others' stand in tests/golden."""

from dataclasses import fields

import numpy as np
import pytest

import engine.evaluation as evaluation
from engine.errors import EvaluationError
from engine.evaluation import Run, compare, evaluate
from engine.evaluation.defaults import DEFAULT_MEASURES
from engine.evaluation.measures import Evaluation, parse_measures
from engine.evaluation.significance import Difference, holm, randomisation_test

pytest.importorskip("ir_measures")

QRELS = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 0}}


PUBLIC = {
    "Comparison": "significance",
    "Evaluation": "measures",
    "Qrels": "qrels",
    "Question": "questions",
    "Run": "runs",
    "compare": "significance",
    "evaluate": "measures",
    "read_qrels": "qrels",
    "read_questions": "questions",
    "read_run": "runs",
    "write_qrels": "qrels",
    "write_run": "runs",
}


def test_public_names_are_these_and_come_from_their_modules() -> None:
    assert evaluation.__all__ == list(PUBLIC)
    assert {name: getattr(evaluation, name).__module__ for name in PUBLIC} == {
        name: f"engine.evaluation.{module}" for name, module in PUBLIC.items()
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018


def test_question_without_results_scores_zero_and_is_counted() -> None:
    found = evaluate({"q1": {"a": 1.0}, "q3": {"c": 1.0}}, QRELS, "MRR@10")
    assert found.scores["MRR@10"].tolist() == [1.0, 0.0, 0.0]
    assert found.means["MRR@10"] == pytest.approx(1 / 3)
    assert found.unanswered == ("q2",)
    assert found.without_relevant == ("q3",)
    assert len(found.warnings) == 3


def test_question_of_the_run_without_qrels_is_counted_and_changes_nothing() -> None:
    with_extra = evaluate({"q1": {"a": 1.0}, "q9": {"z": 1.0}}, {"q1": {"a": 1}}, "AP")
    assert with_extra.unjudged == ("q9",)
    assert with_extra.means == {"AP": 1.0}
    assert "q9" in with_extra.warnings[0]


@pytest.mark.parametrize("run", [{}, {"q9": {"a": 1.0}}, {"q1": {}}])
def test_run_that_answers_no_question_judged_is_an_error(run: dict[str, dict[str, float]]) -> None:
    with pytest.raises(EvaluationError, match="answers none of the 3 questions"):
        evaluate(run, QRELS)


def test_default_measures_are_all_known_and_keep_their_names() -> None:
    assert list(parse_measures(DEFAULT_MEASURES)) == DEFAULT_MEASURES.split()
    assert {str(m) for m in parse_measures("MRR@10 RR@10 mrr@10").values()} == {"RR@10"}


def test_comma_within_parentheses_parts_no_measures() -> None:
    names = "P(rel=1,judged_only=True)@5"
    assert list(parse_measures(f"AP, {names},RR")) == ["AP", names, "RR"]


def test_measure_deeper_than_the_run_is_told_of() -> None:
    run = {f"q{at}": {f"d{place}": -float(place) for place in range(at, at + 5)} for at in (1, 2, 3)}
    found = evaluate(Run(run, name="r"), QRELS, "nDCG@5 R@100 nDCG@10 AP")
    assert found.warnings[-1] == "r: R@100 nDCG@10 of the 5 documents that the run ends at"
    shorter = {question: dict(list(scored.items())[: 3 + at]) for at, (question, scored) in enumerate(run.items())}
    assert not any("ends at" in line for line in evaluate(Run(shorter), QRELS, "R@100").warnings)  # it found no more
    everything = dict.fromkeys(run, run["q1"])
    assert not any("ends at" in line for line in evaluate(Run(everything), QRELS, "R@100").warnings)  # there is no more


def test_seed_below_zero_is_an_error() -> None:
    one = evaluate({"q1": {"a": 1.0}}, QRELS, "AP")
    with pytest.raises(EvaluationError, match="seed -1"):
        compare(one, one, seed=-1)


@pytest.mark.parametrize(
    "name", ["NDGC@10", "R@dix", "", "P()@", "__import__('os')", "BERTScore", "nDCG@0", "P@-1", "R", "NumRet", "NumQ"]
)
def test_unknown_measure_is_an_error(name: str) -> None:
    with pytest.raises(EvaluationError, match="measure"):
        evaluate({"q1": {"a": 1.0}}, QRELS, name)


def test_evaluation_becomes_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = evaluate({"q1": {"a": 1.0}}, QRELS, "MRR@10 P@10").to_frame()
    assert list(frame.columns) == ["MRR@10", "P@10"]
    assert frame.loc["q1", "P@10"] == pytest.approx(0.1)


def measured(name: str, values: list[float], measure: str = "AP") -> Evaluation:
    questions = tuple(f"q{number}" for number in range(len(values)))
    return Evaluation(run=name, questions=questions, scores={measure: np.array(values)})


def test_comparison_counts_wins_ties_and_losses() -> None:
    base, other = measured("base", [0.5, 0.5, 0.5, 0.5]), measured("autre", [1.0, 0.5, 0.4, 0.7])
    difference = compare(base, other).differences[0]
    assert (difference.wins, difference.ties, difference.losses) == (2, 1, 1)
    assert difference.difference == pytest.approx(0.15)


def test_same_seed_gives_the_same_p_value_whatever_else_is_compared() -> None:
    draw = np.random.default_rng(0)
    base = measured("base", draw.random(50).tolist())
    one, two = (measured(name, draw.random(50).tolist()) for name in "ab")
    alone = compare(base, one, permutations=2000, seed=7).differences[0]
    beside = compare(base, [two, one], permutations=2000, seed=7).differences[1]
    assert alone.randomisation_p == beside.randomisation_p
    assert alone.t_p == pytest.approx(beside.t_p)


def test_equal_runs_differ_with_probability_1() -> None:
    base = measured("base", [0.5, 0.25, 1.0])
    one = compare(base, measured("jumeau", [0.5, 0.25, 1.0]), permutations=100).differences[0]
    assert (one.t_p, one.randomisation_p, one.ties) == (1.0, 1.0, 3)


def test_randomisation_test_of_few_questions_is_near_the_exact_one() -> None:
    # Six differences of one sign: 2 of the 64 labellings are as extreme.
    p = randomisation_test(np.ones((6, 1)), permutations=100_000, seed=1)[0]
    assert p == pytest.approx(2 / 64, abs=0.003)


def test_holm_equals_the_worked_example_of_the_procedure() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_comparing_runs_of_other_questions_or_measures_is_an_error() -> None:
    base = measured("base", [0.5, 0.5])
    for other in (measured("x", [0.5, 0.5, 0.5]), measured("x", [0.5, 0.5], "P@1")):
        with pytest.raises(EvaluationError, match="other questions or by other measures"):
            compare(base, other)
    with pytest.raises(EvaluationError, match="single question"):
        compare(measured("base", [0.5]), measured("x", [0.5]))


def test_comparison_becomes_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = compare(measured("base", [0.1, 0.2]), measured("x", [0.3, 0.2]), permutations=10).to_frame()
    assert frame.loc[0, "wins"] == 1
    assert list(frame.columns) == [field.name for field in fields(Difference)]


def test_run_says_how_large_it_is() -> None:
    assert repr(Run({"q": {"a": 1.0}}, name="bm25")) == "Run('bm25', 1 questions, 1 lines)"


def test_each_measure_is_compared_with_itself_and_corrected_for_all_comparisons() -> None:
    draw = np.random.default_rng(0)
    questions = tuple(f"q{number}" for number in range(40))
    base, *others = (
        Evaluation(name, questions, {"AP": draw.random(40) + shift, "P@1": draw.random(40) - shift})
        for name, shift in (("base", 0.0), ("un", 0.1), ("deux", 0.15))
    )
    found = compare(base, others, permutations=500).differences
    assert [(one.run, one.measure) for one in found] == [(run, of) for run in ("un", "deux") for of in ("AP", "P@1")]
    for one in found:
        assert one.difference == pytest.approx(one.mean - one.baseline_mean)
    for test in ("t", "randomisation"):
        p, corrected = (np.array([getattr(one, f"{test}_{kind}") for one in found]) for kind in ("p", "holm"))
        assert corrected.tolist() == pytest.approx(holm(p).tolist())
        assert (corrected > p).any()


def test_questions_beyond_those_measured_at_a_time_are_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.evaluation.measures._CHUNK", 2)
    names = [f"q{number}" for number in range(5)]
    found = evaluate({name: {"a": 1.0} for name in names}, {name: {"a": 1} for name in names}, "RR")
    assert found.scores["RR"].tolist() == [1.0] * 5


def test_randomisation_test_counts_the_labelling_observed_and_what_equals_it_but_for_rounding() -> None:
    assert randomisation_test(np.ones((60, 1)), permutations=9).tolist() == [0.1]
    # Decimals, all positive: the observed labelling and its mirror are the only ones as extreme, whatever the order
    # in which their sums are rounded.
    delta = np.random.default_rng(0).integers(1, 100, (7, 50)) / 100
    assert randomisation_test(delta, permutations=20_000).tolist() == pytest.approx([2 / 128] * 50, abs=0.005)


def test_signs_drawn_in_portions_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = np.random.default_rng(0).normal(0.03, 0.2, (60, 3))
    whole = randomisation_test(delta, permutations=1000, seed=1)
    monkeypatch.setattr("engine.evaluation.significance._SIGNS_AT_ONCE", 60 * 64)  # 15 portions of 64, and one of 40
    assert randomisation_test(delta, permutations=1000, seed=1).tolist() == whole.tolist()

"""Tables in every format, and plots."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EvaluationError, StorageError
from engine.evaluation import Evaluation, Run, compare
from engine.evaluation.plots import check_plot_path, plot_differences, plot_recall
from engine.evaluation.qrels import Qrels
from engine.evaluation.reports import (
    changes_table,
    comparison_table,
    evaluation_record,
    measures_table,
    per_question_table,
    render,
)


def evaluation(name: str, values: list[float]) -> Evaluation:
    return Evaluation(name, tuple(f"q{n}" for n in range(len(values))), {"AP": np.array(values)})


BASE, BETTER = evaluation("base", [0.1] * 12), evaluation("mieux_50%", [0.2] * 11 + [0.05])
COMPARISON = compare(BASE, BETTER, permutations=999)


def test_text_table_has_a_line_a_run_and_aligned_columns() -> None:
    lines = render(measures_table([BASE, BETTER]), "text").splitlines()
    assert lines[0].split() == ["run", "AP", "questions", "unanswered"]
    assert lines[1].split() == ["base", "0.1000", "12", "0"]
    assert lines[1].index("0.1000") == lines[2].index("0.1875")


def test_significant_difference_is_marked() -> None:
    assert "0.1875†" in render(measures_table([BASE, BETTER], COMPARISON), "text")


def test_csv_is_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(render(comparison_table(COMPARISON), "csv"))))
    assert rows[0]["run"] == "mieux_50%"
    assert float(rows[0]["difference"]) == pytest.approx(0.0875)
    assert (rows[0]["wins"], rows[0]["ties"], rows[0]["losses"]) == ("11", "0", "1")


def test_latex_escapes_what_latex_reads() -> None:
    text = render(measures_table([BETTER], COMPARISON), "latex")
    assert r"mieux\_50\%" in text
    assert r"$^{\dagger}$" in text
    assert text.startswith("\\begin{tabular}{lrrr}")


def test_json_record_holds_everything_and_is_json() -> None:
    record = json.loads(json.dumps(evaluation_record([BASE, BETTER], COMPARISON, {}, each=True)))
    assert len(record["per_question"]) == 24
    assert record["comparison"]["differences"][0]["wins"] == 11
    assert record["changes"][0] == {"run": "mieux_50%", "question": "q0", "Δ AP": pytest.approx(0.1)}


def test_per_question_and_changes_name_the_questions() -> None:
    assert per_question_table([BASE])[3] == {"run": "base", "question": "q3", "AP": 0.1}
    changes = changes_table([BASE, BETTER], COMPARISON, count=3)
    assert [row["question"] for row in changes] == ["q0", "q1", "q2"]
    assert changes[0]["Δ AP"] == pytest.approx(0.1)


def test_changes_weigh_all_measures_and_leave_out_what_did_not_change() -> None:
    questions = ("same", "little", "much")
    one = Evaluation("a", questions, {"AP": np.array([0.5, 0.5, 0.5]), "RR": np.array([1.0, 1.0, 1.0])})
    other = Evaluation("b", questions, {"AP": np.array([0.5, 0.3, 0.4]), "RR": np.array([1.0, 1.0, 0.5])})
    changes = changes_table([other, one], compare(one, other, permutations=9))
    assert [row["question"] for row in changes] == ["much", "little"]
    assert render(changes, "text").splitlines()[2].split() == ["b", "little", "-0.2000", "0"]


def test_p_values_are_never_shown_as_zero() -> None:
    assert render([{"p (t)": 0.000001, "Holm (t)": 0.00012}], "csv").splitlines()[1] == "1e-06,0.00012"
    assert render([{"p (t)": 0.000001, "Holm (t)": 0.00012}], "text").splitlines()[1].split() == ["<0.0001", "0.0001"]


def test_unknown_format_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no format 'xml'"):
        render([], "xml")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plots_are_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("ir_measures")
    plot_differences(BASE, BETTER, "AP", tmp_path / f"d.{ending}")
    run, qrels = Run({"q0": {"a": 1.0}}, name="bm25"), Qrels({"q0": {"a": 1}})
    plot_recall([run], qrels, tmp_path / f"r.{ending}")
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert all(path.read_bytes().startswith(start) for path in tmp_path.iterdir())


def test_names_of_runs_are_no_formulas_and_stand_in_the_legend(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("ir_measures")
    odd = [evaluation(name, [0.1, 0.2]) for name in ("a$b^{$\\c", "_base")]
    plot_differences(*odd, "AP", tmp_path / "d.svg")
    runs = [Run({"q0": {"a": 1.0}}, name=name) for name in ("a$b^{$\\c", "_base")]
    plot_recall(runs, Qrels({"q0": {"a": 1}}), tmp_path / "r.svg")
    # Text becomes outlines, whose source stands in a comment.
    assert "_base" in (tmp_path / "r.svg").read_text()
    assert "a$b^{$\\c" in (tmp_path / "r.svg").read_text()


def test_plot_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "none" / "d.png", tmp_path / "folder.png"):
        with pytest.raises(StorageError, match="cannot be written"):
            check_plot_path(path)


def test_plot_that_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(EvaluationError, match=r"ends in \.png or \.svg"):
        plot_differences(BASE, BETTER, "AP", tmp_path / "d.pdf")
    with pytest.raises(EvaluationError, match="nDCG"):
        plot_differences(BASE, BETTER, "nDCG", tmp_path / "d.png")
    with pytest.raises(StorageError, match="cannot be written"):
        plot_differences(BASE, BETTER, "AP", tmp_path / "none" / "d.png")

"""`fouille train` as a person meets it: flags, refusals before training, dev questions, a teacher, Ctrl-C."""

import json
import os
import signal
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli import app
from engine.errors import DeviceError, FouilleError
from engine.evaluation.runs import Run, write_run
from engine.training.dev import dev_from_run
from engine.training.examples import Group
from engine.training.recipes import PRESETS, Kind, Recipe
from engine.training.session import TrainReport
from engine.training.teacher import taught

pytest.importorskip("accelerate")

QUICK = ["--max-length=32", "--negatives=2", "--batch=4", "--steps=2", "--evaluate-every=1", "--precision=fp32"]


@pytest.fixture
def data(groups: list[Group], jsonl) -> Path:
    records = [{"question": one.question, "passages": one.passages, "labels": one.labels} for one in groups]
    return jsonl(*records)


def train(kind: str, base: Path, data: object, output: Path, *flags: str) -> Result:
    command = [
        "train",
        kind,
        "--base",
        str(base),
        "--data",
        str(data),
        "-o",
        str(output),
        *QUICK,
        "--device=cpu",
        *flags,
    ]
    return CliRunner().invoke(app, command)


def test_command_trains_with_a_teacher_and_dev_questions(tiny: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    flags = ["--preset", "margin-mse", "--teacher", str(tiny.reranker), "--dev", str(data), "--licence", "MIT"]
    done = train("cross-encoder", tiny.reranker, data, tmp_path / "m", *flags)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "fouille: step 0: nDCG@10" in done.stderr
    assert "2 steps, 8 examples" in done.stderr
    card = (tmp_path / "m" / "README.md").read_text("utf-8")
    assert "license: mit" in card
    assert f"- {data.name}" in card


def test_device_of_the_environment_counts(
    tiny: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("FOUILLE_DEVICE", "cuda")
    command = ["train", "cross-encoder", "--base", str(tiny.reranker), "--data", str(data), "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(app, [*command, *QUICK])
    assert isinstance(done.exception, DeviceError)


def test_each_of_several_positives_has_its_own_negatives(tiny: SimpleNamespace, beir: Path, tmp_path: Path) -> None:
    with (beir / "qrels" / "train.tsv").open("a") as stream:
        stream.writelines(f"\nq{n}\tmouton-forêt\t1" for n in range(7))
    done = train("cross-encoder", tiny.reranker, beir, tmp_path / "m", "--preset", "mmarco-l6")
    assert done.exit_code == 0, done.output
    assert f"8 groups, {7 * (2 + 4) + (1 + 2)} examples in a pass" in done.stderr


@pytest.mark.parametrize("kind", get_args(Kind))
def test_help_names_every_preset_and_there_is_a_flag_for_every_number(kind: str) -> None:
    shown = CliRunner().invoke(app, ["train", kind, "--help"], terminal_width=200).output
    for preset, numbers in PRESETS.items():
        assert (f" {preset} " in shown) == (numbers["kind"] == kind)
    of_the_other = {"temperature"} if kind == "cross-encoder" else {"start", "boost", "anchor"}
    for field in {field.name for field in fields(Recipe)} - {"kind"} - of_the_other:
        assert f"--{field.replace('_', '-')}" in shown


def test_train_alone_shows_its_help() -> None:
    done = CliRunner().invoke(app, ["train"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "cross-encoder" in done.stdout
    assert "bi-encoder" in done.stdout


def test_command_refuses_bad_data_before_it_trains(tiny: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    with data.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"question": "q", "passages": ["a", "b"], "labels": [1, 2]}) + "\n")
    done = train("cross-encoder", tiny.reranker, data, tmp_path / "m")
    assert isinstance(done.exception, FouilleError)
    assert str(done.exception) == f"{data}:9: the label 2 is not a number in [0, 1]"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--preset", "x"], "no preset 'x'"),
        (["--layers", "a"], "no list of layers"),
        (["--dev", "absent"], "dev questions need their judgements"),
        (["--dev", __file__, "--dev-run", "r"], "dev questions need their judgements"),
        (["--dev", "q.tsv", "--dev-qrels", "x", "--dev-run", "r"], "--dev-corpus"),
        (["--resume"], "no checkpoint to go on from"),
        (["--patience", "3"], "--patience: there are no dev questions"),
        (["--dev-qrels", "x"], "--dev-qrels: there are no dev questions"),
        (["--dev-run", "x"], "--dev-run: there are no dev questions"),
    ],
)
def test_command_refuses_flags_that_do_not_go_together(
    tiny: SimpleNamespace, data: Path, tmp_path: Path, flags: list[str], reason: str
) -> None:
    done = train("cross-encoder", tiny.reranker, data, tmp_path / "m", *flags)
    assert isinstance(done.exception, FouilleError)
    assert reason in str(done.exception)


def test_rejected_training_can_begin_again(tiny: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    sound = data.read_text("utf-8")
    data.write_text(sound + "{", "utf-8")
    assert isinstance(train("bi-encoder", tiny.encoder, data, tmp_path / "m").exception, FouilleError)
    data.write_text(sound, "utf-8")
    done = train("bi-encoder", tiny.encoder, data, tmp_path / "m")
    assert done.exit_code == 0, done.output
    assert "8 groups, 8 examples in a pass" in done.stderr


@pytest.mark.parametrize(
    ("name", "reason"), [("data.jsonl", "the data name no question by its id"), ("animaux", "none of its ids is in")]
)
def test_command_refuses_a_held_out_list_that_holds_nothing_out(
    tiny: SimpleNamespace, data: Path, beir: Path, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "ids.txt").write_text("autre\n", "utf-8")
    flags = ["--held-out", str(tmp_path / "ids.txt")]
    done = train("bi-encoder", tiny.encoder, tmp_path / name, tmp_path / "m", *flags)
    assert isinstance(done.exception, FouilleError)
    assert reason in str(done.exception)


def test_command_leaves_a_taken_folder_alone(tiny: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").touch()
    done = train("bi-encoder", tiny.encoder, data, tmp_path / "m")
    assert "the folder is taken" in str(done.exception)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["mine.txt"]


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    tiny: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.training.watch import Watch

    begin = Watch.on_train_begin

    def pressed(self, *arguments, **rest):
        begin(self, *arguments, **rest)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Watch, "on_train_begin", pressed)
    done = train("cross-encoder", tiny.reranker, data, tmp_path / "m")
    assert done.exit_code == 130
    assert "stopped after 1 step, 4 examples" in done.stderr
    assert "--resume with the same flags goes on" in done.stderr
    monkeypatch.undo()
    assert train("cross-encoder", tiny.reranker, data, tmp_path / "m", "--resume").exit_code == 0


def test_summary_has_this_sessions_rate_and_says_that_the_base_was_better(
    tiny: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tuple({"step": step, "eval_nDCG@10": 1 / (1 + step), "eval_MRR@10": 0.5} for step in (0, 10))
    report = TrainReport(tmp_path / "m", 10, 40, 2.0, history, kept_step=10, first_step=6)
    monkeypatch.setattr("engine.training.session.train", lambda *_, **__: report)
    done = train("cross-encoder", tiny.reranker, data, tmp_path / "m")
    assert "10 steps, 40 examples, 2.00 steps/s" in done.stderr
    assert "fouille: the base was better before it was trained" in done.stderr


def test_teacher_scores_every_passage_in_its_place(groups: list[Group]) -> None:
    teacher = SimpleNamespace(score_pairs=lambda pairs, **_: _lengths(pairs))
    found = list(taught(groups * 20, teacher))
    assert len(found) == 160
    assert all(one.scores == tuple(float(len(text)) for text in one.passages) for one in found)


def _lengths(pairs):
    import numpy as np

    return np.array([len(passage) for _, passage in pairs], np.float32)


def test_dev_questions_of_a_run_count_what_the_run_missed(beir: Path, tmp_path: Path) -> None:
    ranked = {"q0": {"loup-forêt": 2.0, "chat-maison": 1.0}, "q1": {"loup-forêt": 1.0}}
    write_run(Run(ranked), tmp_path / "r.trec")
    dev = dev_from_run(str(beir), str(beir), tmp_path / "r.trec", str(beir), 10)
    found = [(one.grades, one.missed) for one in dev.questions]
    assert found == [((0, 1), ()), ((0,), (1,)), *[((), (1,))] * 6]
    best = dev.measure(lambda pairs: _lengths([(q, p if "chat" in p else "") for q, p in pairs]))
    assert best == {"nDCG@10": 1 / 8, "MRR@10": 1 / 8}


def test_dev_questions_and_passages_that_cannot_be_found_count_and_are_told(beir: Path, tmp_path: Path) -> None:
    qrels = tmp_path / "dev.qrels"
    qrels.write_text("q0 0 chat-maison 1\nq1 0 chien-jardin 1\nq2 0 cheval-forêt 1\n", "utf-8")
    write_run(Run({"q0": {"chat-maison": 2.0, "absent": 1.0}, "q1": {"autre": 1.0}}), tmp_path / "r.trec")
    dev = dev_from_run(str(beir), str(qrels), tmp_path / "r.trec", str(beir), 10)
    assert dev.notices == (
        "1 dev questions that the run does not rank: counted as not found",
        "2 passages of the run that the corpus does not have: counted as not found",
    )
    assert dev.measure(lambda pairs: _lengths(pairs))["nDCG@10"] == pytest.approx(1 / 3)

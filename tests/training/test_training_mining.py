"""Hard negatives: which ranks they come from, and what is left out."""

import json
from collections.abc import Iterator
from math import nan
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from engine.collection import Collection
from engine.documents import open_source
from engine.errors import InvalidOption
from engine.evaluation import Qrels, Question, read_qrels, read_questions
from engine.records import Document, SearchOptions
from engine.training.examples import Group, read_groups
from engine.training.mining import MineReport, Mining, mine


@pytest.fixture
def collection(beir: Path, tmp_path: Path) -> Iterator[Collection]:
    made = Collection.create(tmp_path / "c", first_stage="bm25", splitter="none")
    made.update([open_source(str(beir), columns=None)])
    with made:
        yield made


class Judge:
    """Calls every passage with this word in it relevant, and the first pair of each question, its positive."""

    def __init__(self, word: str) -> None:
        self.word = word

    def score(self, _question: str, passages: list[str], *, activation: str) -> np.ndarray:
        assert activation == "none"
        good = [row == 0 or self.word in text for row, text in enumerate(passages)]
        return np.where(good, 4.0, -4.0).astype(np.float32)


def mined(
    collection: Collection, beir: Path, mining: Mining, judge: Judge | None = None
) -> tuple[list[Group], MineReport]:
    report = MineReport()
    qrels = read_qrels(beir)
    found = mine(collection, read_questions(beir, only=qrels), qrels, mining, report, reranker=judge)
    return list(found), report


def test_negatives_come_from_the_ranks_asked_for(collection: Collection, beir: Path) -> None:
    groups, report = mined(collection, beir, Mining(first=2, last=4, negatives=9))
    assert report.questions == len(groups) == 8
    for group in groups:
        options = SearchOptions(k=4, first_stage="bm25", rerank=False)
        ranked = [hit.text for hit in collection.search(group.question, options).hits]
        assert list(group.passages[1:]) == [text for text in ranked[1:] if text != group.passages[0]]
        assert group.labels == (1.0,) + (0.0,) * (len(group.passages) - 1)


def test_drawing_is_the_same_for_a_seed_and_keeps_the_order(collection: Collection, beir: Path) -> None:
    one, other, third = (mined(collection, beir, Mining(negatives=3, seed=seed))[0] for seed in (1, 1, 2))
    assert one == other != third
    assert all(list(group.scores[1:]) == sorted(group.scores[1:], reverse=True) for group in one)


@pytest.mark.parametrize("mining", [Mining(max_score=0.9), Mining(margin=2.0)])
def test_what_the_reranker_calls_relevant_is_dropped(collection: Collection, beir: Path, mining: Mining) -> None:
    groups, report = mined(collection, beir, mining, Judge("maison"))
    assert report.dropped > 0
    assert not any("maison" in text for group in groups for text in group.passages[1:])


def test_unknown_positives_are_counted(collection: Collection, beir: Path) -> None:
    collection.delete(["chat-maison"])
    groups, report = mined(collection, beir, Mining())
    assert (len(groups), report.without_positives) == (7, 1)


def test_ranks_that_hold_nothing_are_refused() -> None:
    with pytest.raises(InvalidOption, match="ranks 5 to 4"):
        Mining(first=5, last=4)


@pytest.mark.parametrize("flags", [{"max_score": 1.5}, {"max_score": -0.5}, {"max_score": nan}, {"margin": nan}])
def test_thresholds_that_mean_nothing_are_refused(flags: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match=f"--{next(iter(flags)).replace('_', '-')}"):
        Mining(**flags)


def test_copy_of_a_positive_is_no_negative(beir: Path, tmp_path: Path) -> None:
    corpus = (beir / "corpus.jsonl").read_text("utf-8")
    copied = json.loads(corpus.splitlines()[0]) | {"_id": "copie"}
    (beir / "corpus.jsonl").write_text(f"{corpus}\n{json.dumps(copied)}", "utf-8")
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="none") as made:
        made.update([open_source(str(beir), columns=None)])
        groups, report = mined(made, beir, Mining())
    assert report.copies == 1
    assert all(group.passages[0] not in group.passages[1:] for group in groups)


def test_positive_that_was_split_is_its_passage_that_the_first_stage_prefers(tmp_path: Path) -> None:
    filler = "Le marché ouvre le matin sur la place et ferme à midi. " * 20
    long = Document("long", f"{filler}Le cheval dort dans la grange. {filler}")
    others = [Document(f"autre-{n}", f"Le cheval numéro {n} court dans le pré.") for n in range(4)]
    qrels = Qrels({"q": {"long": 1}, "absent": {"long": 1}})
    asked = [Question("q", "où dort le cheval dans la grange ?"), Question("absent", "numéro du pré")]
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:40:0") as made:
        made.add([long, *others])
        found, missed = mine(made, asked, qrels, Mining(), MineReport())
    assert "grange" in found.passages[0]
    assert len(found.passages[0].split()) < 60
    assert missed.passages[0] == long.text  # which passage answers is not known


def test_command_writes_groups_that_training_reads(collection: Collection, beir: Path, tmp_path: Path) -> None:
    collection.close()
    output = tmp_path / "mined.jsonl.gz"
    command = ["mine", str(beir), "--qrels", str(beir), "-c", str(tmp_path / "c"), "-o", str(output)]
    done = CliRunner().invoke(app, [*command, "--ranks", "1-10", "--negatives", "4"])
    assert done.exit_code == 0, done.output
    assert "8 questions, 32 negatives" in done.stderr
    assert [len(group.passages) for group in read_groups(output)] == [5] * 8


def test_first_stage_of_a_setting_is_for_collections_that_have_it(
    collection: Collection, beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUILLE_FIRST_STAGE", "dense")
    command = ["mine", str(beir), "--qrels", str(beir), "-c", str(tmp_path / "c"), "-o", str(tmp_path / "m.jsonl")]
    assert "8 questions" in CliRunner().invoke(app, command).stderr
    assert isinstance(CliRunner().invoke(app, [*command, "--first-stage", "dense"]).exception, InvalidOption)


def test_command_wants_a_reranker_and_a_threshold_together(collection: Collection, beir: Path, tmp_path: Path) -> None:
    command = ["mine", str(beir), "--qrels", str(beir), "-c", str(tmp_path / "c"), "-o", str(tmp_path / "m.jsonl")]
    for flags, reason in ((["--max-score", "0.5"], "--reranker"), (["--reranker", "x"], "--max-score or --margin")):
        done = CliRunner().invoke(app, [*command, *flags])
        assert isinstance(done.exception, InvalidOption)
        assert reason in str(done.exception)
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.parametrize(
    ("mining", "kept"),
    [(Mining(max_score=0.7), 0), (Mining(max_score=0.75), 8), (Mining(margin=3.1), 0), (Mining(margin=2.9), 8)],
)
def test_thresholds_are_a_probability_and_a_distance_of_logits(
    collection: Collection, beir: Path, mining: Mining, kept: int
) -> None:
    class Sure(Judge):  # of positives; of anything else not quite: a logit of 1 is a probability of 0.73
        def score(self, _question: str, passages: list[str], *, activation: str) -> np.ndarray:  # noqa: ARG002
            return np.array([4.0] + [1.0] * (len(passages) - 1), np.float32)

    groups, report = mined(collection, beir, mining, Sure(""))
    assert len(groups) == kept
    assert (report.dropped > 0) is (kept == 0)

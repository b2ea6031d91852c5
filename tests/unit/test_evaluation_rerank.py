"""Reranking any run: every pair scored with its own passage, each passage tokenised once, nothing silent."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import engine.evaluation.rerank as reranking
from engine.errors import EvaluationError
from engine.evaluation import Question, Run, read_run
from engine.evaluation.batch import questions_fingerprint
from engine.evaluation.provenance import differences
from engine.evaluation.rerank import CorpusPassages, iter_reranked, rerank
from engine.records import Ragged

QUESTIONS = [Question("q1", "chat chien"), Question("q2", "loup"), Question("q3", "ours")]
TEXTS = {"d1": "le chat", "d2": "le loup et le chien", "d3": "rien", "d4": "chat chien loup", "d5": "chien"}


class Scored(NamedTuple):
    logits: np.ndarray
    truncated: np.ndarray


class WordCounts:
    """A cross-encoder that counts shared words: tokens are numbered words, a passage beyond 4 words is truncated."""

    name, hash, max_length, precision = "compte-mots", "0" * 32, 4, "fp32"

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.tokenised: list[str] = []
        self.calls = 0

    def recommended_interpolate(self) -> None:
        return None

    def _ids(self, text: str) -> list[int]:
        return [self.vocabulary.setdefault(word, len(self.vocabulary)) for word in text.split()]

    def tokenize_passages(self, texts: Sequence[str]) -> Ragged:
        self.tokenised += texts
        rows = [self._ids(text) for text in texts]
        offsets = np.cumsum([0, *map(len, rows)])
        return Ragged(np.array([word for row in rows for word in row], np.uint16), offsets)

    def score_tokens(
        self,
        questions: Sequence[str],
        passages: Ragged,
        pairs: np.ndarray,
        *,
        long_passages: str,  # noqa: ARG002
    ) -> Scored:
        self.calls += 1
        rows = [passages.values[a:b].tolist() for a, b in zip(passages.offsets, passages.offsets[1:], strict=False)]
        logits = [len(set(self._ids(questions[q])) & set(rows[p])) for q, p in pairs.tolist()]
        truncated = [len(rows[p]) > self.max_length for _, p in pairs.tolist()]

        return Scored(np.array(logits, np.float32), np.array(truncated))


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusPassages:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in TEXTS.items()))
    return CorpusPassages(str(path))


RUN = Run({"q1": {"d1": 3.0, "d2": 2.0, "d3": 1.0, "d4": 0.0}, "q2": {"d3": 2.0, "d2": 1.0, "d1": 0.0}}, name="bm25")


def written(path: Path) -> Mapping[str, dict[str, float]]:
    return {q: dict(zip(r.documents, r.scores.tolist(), strict=True)) for q, r in read_run(path).items()}


def test_every_pair_is_scored_with_its_own_passage(tmp_path: Path, corpus: CorpusPassages) -> None:
    report = rerank(RUN, QUESTIONS, corpus, WordCounts(), tmp_path / "out.trec")
    assert written(tmp_path / "out.trec") == {
        "q1": {"d4": 2.0, "d2": 1.0, "d1": 1.0, "d3": 0.0},
        "q2": {"d2": 1.0, "d3": 0.0, "d1": 0.0},
    }
    assert (report.questions, report.pairs, report.passages, report.truncated) == (2, 7, 4, 2)
    assert report.notices == ("questions without a candidate in bm25: 1 of 3",)


def test_each_passage_is_tokenised_once_across_windows(
    tmp_path: Path, corpus: CorpusPassages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking, "_FEWEST_PAIRS", 1)
    monkeypatch.setattr(reranking, "_MOST_PAIRS", 1)
    monkeypatch.setattr(reranking, "_PASSAGES_AT_ONCE", 2)
    model = WordCounts()
    rerank(RUN, QUESTIONS, corpus, model, tmp_path / "windows.trec")
    assert sorted(model.tokenised) == sorted(TEXTS[name] for name in ("d1", "d2", "d3", "d4"))
    assert model.calls == 2
    monkeypatch.setattr(reranking, "_FEWEST_PAIRS", 1000)
    rerank(RUN, QUESTIONS, corpus, WordCounts(), tmp_path / "one.trec")
    assert written(tmp_path / "windows.trec") == written(tmp_path / "one.trec")


def test_one_stream_serves_several_questions(corpus: CorpusPassages) -> None:
    model = WordCounts()
    assert len(list(iter_reranked(RUN, QUESTIONS, corpus, model))) == 2
    assert model.calls == 1


def test_depth_leaves_out_what_is_below(corpus: CorpusPassages) -> None:
    answers = iter_reranked(RUN, QUESTIONS, corpus, WordCounts(), depth=2)
    assert [answer.documents for answer in answers] == [("d1", "d2"), ("d3", "d2")]


def test_interpolation_adds_the_standardised_first_score(corpus: CorpusPassages) -> None:
    plain = next(iter_reranked(RUN, QUESTIONS, corpus, WordCounts()))
    mixed = next(iter_reranked(RUN, QUESTIONS, corpus, WordCounts(), interpolate=2.0))
    z = (np.array([3.0, 2.0, 1.0, 0.0]) - 1.5) / np.std([3.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(mixed.scores, plain.scores + 2 * z, rtol=1e-6)


def test_equal_first_scores_interpolate_to_nothing(corpus: CorpusPassages) -> None:
    run = Run({"q1": {"d1": 0.1, "d2": 0.1, "d3": 0.1}})
    mixed = next(iter_reranked(run, QUESTIONS, corpus, WordCounts(), interpolate=5.0))
    assert mixed.scores.tolist() == next(iter_reranked(run, QUESTIONS, corpus, WordCounts())).scores.tolist()


def test_passage_that_the_corpus_lacks_is_an_error(tmp_path: Path, corpus: CorpusPassages) -> None:
    run = Run({"q1": {"d1": 1.0, "d9": 0.5}})
    with pytest.raises(EvaluationError, match="1 of the run's 2 passages are not there, such as 'd9'"):
        rerank(run, QUESTIONS, corpus, WordCounts(), tmp_path / "out.trec")
    assert not (tmp_path / "out.trec").exists()


def test_passage_that_stands_twice_in_the_corpus_is_an_error(corpus: CorpusPassages) -> None:
    with Path(corpus.source).open("a") as stream:
        stream.write('{"_id": "d1", "text": "autre"}\n')
    with pytest.raises(EvaluationError, match="'d1' stands twice"):
        list(iter_reranked(RUN, QUESTIONS, corpus, WordCounts()))


def test_question_without_text_is_an_error(corpus: CorpusPassages) -> None:
    with pytest.raises(EvaluationError, match="have no text, such as 'q2'"):
        list(iter_reranked(RUN, QUESTIONS[:1], corpus, WordCounts()))


def test_interrupted_reranking_goes_on(tmp_path: Path, corpus: CorpusPassages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranking, "_FEWEST_PAIRS", 1)
    monkeypatch.setattr(reranking, "_MOST_PAIRS", 1)
    model = WordCounts()

    def stop(part: str, done: int, total: int | None) -> None:
        if part == "pairs" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(RUN, QUESTIONS, corpus, model, tmp_path / "out.trec", progress=stop)
    report = rerank(RUN, QUESTIONS, corpus, model, tmp_path / "out.trec")
    assert (report.resumed, report.questions) == (1, 1)
    assert list(written(tmp_path / "out.trec")) == ["q1", "q2"]
    rerank(RUN, QUESTIONS, corpus, model, tmp_path / "whole.trec")
    resumed, whole = (json.loads((tmp_path / f"{name}.trec.json").read_text()) for name in ("out", "whole"))
    assert "truncated" not in resumed["options"]  # of this session alone
    assert whole["options"]["truncated"] == 2
    assert differences(resumed, whole) == []


def test_interrupted_reranking_of_another_run_of_the_same_name_is_not_taken_up(
    tmp_path: Path, corpus: CorpusPassages
) -> None:
    def stop(part: str, done: int, total: int | None) -> None:
        if part == "pairs" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(RUN, QUESTIONS, corpus, WordCounts(), tmp_path / "out.trec", progress=stop)
    other = Run({question: dict(zip(*RUN[question], strict=True)) for question in reversed(list(RUN))}, name=RUN.name)
    with pytest.raises(EvaluationError, match=r"other options is in the way: inputs\.run"):
        rerank(other, QUESTIONS, corpus, WordCounts(), tmp_path / "out.trec")


def test_provenance_says_which_model_and_which_corpus(tmp_path: Path, corpus: CorpusPassages) -> None:
    rerank(RUN, QUESTIONS, corpus, WordCounts(), tmp_path / "out.trec")
    record = json.loads((tmp_path / "out.trec.json").read_text())
    assert record["models"] == {"compte-mots": "0" * 32}
    assert record["collection"]["corpus"] == "corpus.jsonl"
    answered = [question for question in QUESTIONS if question.id in RUN]
    assert record["inputs"] == {"run": RUN.fingerprint, "questions": questions_fingerprint(answered)}
    assert record["options"]["interpolate"] == 0.0

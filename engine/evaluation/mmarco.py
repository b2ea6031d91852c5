"""mMARCO in French, in its own file layout: collection, questions, qrels and the candidates of both cards' protocols.

A local copy has the layout of the data set `unicamp-dl/mmarco` on the Hugging Face hub (Bonifacio et al. 2021), from
its `data` folder or from `data/google` on. Beside it lie the two candidate files that the cards' protocols need:

    google/collections/french_collection.tsv                    passage id, text
    google/queries/dev/french_queries.dev.small.tsv             question id, text (or french_queries.dev.tsv)
    google/queries/train/french_queries.train.tsv
    qrels.dev.small.tsv                                         question, 0, passage, 1
    colbertv2-negatives.dev.small.jsonl                         {"qid", "pos": [...], "neg": [...]}
    msmarco-qidpidtriples.rnd-shuf.train-eval.tsv               question, relevant passage, BM25 negative
    triples.train.ids.small.tsv                                 the same to train on, or qidpidtriples.train.full.2.tsv
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from engine.errors import DependencyMissing, EvaluationError
from engine.evaluation.corpora import json_lines
from engine.evaluation.lines import numbered_lines
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.questions import Question, read_questions
from engine.evaluation.runs import Run, decode_id

__all__ = ["COLLECTION", "MMarco", "held_out_questions", "id_triples"]

TRAIN_QUESTIONS = 500
TRAIN_NEGATIVES = 200
COLLECTION = "collections/french_collection.tsv"
_DEV_QUESTIONS = ("queries/dev/french_queries.dev.small.tsv", "queries/dev/french_queries.dev.tsv")
_TRAIN_QUESTIONS = ("queries/train/french_queries.train.tsv",)
_DEV_QRELS = ("qrels.dev.small.tsv",)
_DEV_CANDIDATES = ("colbertv2-negatives.dev.small.jsonl",)
_HELD_OUT_TRIPLES = ("msmarco-qidpidtriples.rnd-shuf.train-eval.tsv",)
_TRAIN_TRIPLES = ("triples.train.ids.small.tsv", "qidpidtriples.train.full.2.tsv", "qidpidtriples.train.full.tsv")
_ROOTS = ("", "google", "data", "data/google")
_HUB = {
    COLLECTION: ("unicamp-dl/mmarco", "data/google/" + COLLECTION),
    _DEV_QUESTIONS[1]: ("unicamp-dl/mmarco", "data/google/" + _DEV_QUESTIONS[1]),
    _TRAIN_QUESTIONS[0]: ("unicamp-dl/mmarco", "data/google/" + _TRAIN_QUESTIONS[0]),
    _DEV_QRELS[0]: ("unicamp-dl/mmarco", "data/" + _DEV_QRELS[0]),
    _TRAIN_TRIPLES[0]: ("unicamp-dl/mmarco", "data/" + _TRAIN_TRIPLES[0]),
    _DEV_CANDIDATES[0]: ("antoinelouis/msmarco-dev-small-negatives", _DEV_CANDIDATES[0]),
}


class MMarco:
    """The French part of mMARCO, in a local copy or from the hub.

    Args:
        folder: the local copy; None downloads what is asked for into the hub's own cache.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise EvaluationError("not a folder", where=folder, hint="give the folder of a copy of mMARCO")
        self.folder = None if folder is None else Path(folder)

    def collection(self) -> Path:
        """The passages: 8,841,823 in the real one."""
        return self._file(COLLECTION)

    def dev_questions(self) -> list[Question]:
        """The questions of the small dev set: 6,980 in the real one."""
        return read_questions(self._file(*_DEV_QUESTIONS), only=self.dev_qrels())

    def dev_qrels(self) -> Qrels:
        """The judgements of the small dev set."""
        return read_qrels(self._file(*_DEV_QRELS))

    def has_dev_candidates(self) -> bool:
        """Whether the candidate file of the small dev set can be had without asking the hub."""
        return self.folder is not None and self._local(*_DEV_CANDIDATES) is not None

    def dev_candidates(self) -> tuple[Run, Qrels]:
        """Candidates of each small dev question (positives and hard negatives, 1,000 in all) and its positives."""
        return _candidates(_grouped(self._file(*_DEV_CANDIDATES)))

    def train_questions(self, only: Qrels) -> list[Question]:
        """The training questions that these qrels judge."""
        return read_questions(self._file(*_TRAIN_QUESTIONS), only=only)

    def train_candidates(self) -> tuple[Run, Qrels]:
        """500 training questions with their relevant passages and at most 200 BM25 negatives each.

        As in the script of sentence-transformers from which the cards' protocol stems: the first 500 questions of the
        file, the first 200 different negatives of each.
        """
        path = self._file(*_HELD_OUT_TRIPLES)
        return _candidates(_from_triples(path, held_out_questions(path)))

    def held_out(self) -> list[str]:
        """The 500 training questions that the protocol measures: no training may sample them."""
        return held_out_questions(self._file(*_HELD_OUT_TRIPLES))

    def train_triples(self) -> Path:
        """Triples of ids to train on: question, relevant passage, BM25 negative."""
        return self._file(*_TRAIN_TRIPLES)

    def all_train_questions(self) -> Path:
        """Every training question: 808,731 in the real file."""
        return self._file(*_TRAIN_QUESTIONS)

    def _file(self, *names: str) -> Path:
        if self.folder is None:
            return _from_hub(names)
        path = self._local(*names)
        if path is None:
            raise EvaluationError(f"has no {names[0]}", where=self.folder, hint="see fouille benchmark --help")
        return path

    def _local(self, *names: str) -> Path | None:
        places = (Path(root) / (name + end) for name in names for root in _ROOTS for end in ("", ".gz"))
        folder = self.folder or Path()
        return next((folder / place for place in places if (folder / place).is_file()), None)


def _from_hub(names: tuple[str, ...]) -> Path:
    known = [_HUB[name] for name in names if name in _HUB]
    if not known:
        raise EvaluationError(f"{names[0]} is on no hub", hint="download it by hand and give its folder with --data")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx or httpx2, by version
    except ImportError:
        raise DependencyMissing("huggingface_hub is not installed", hint="give a local copy with --data") from None
    repository, path = known[0]
    try:
        return Path(hf_hub_download(repository, path, repo_type="dataset"))
    except (HTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EvaluationError(
            f"cannot be downloaded: {reason}", where=f"{repository}/{path}", hint="give a local copy with --data"
        ) from error


Group = tuple[str, list[str], list[str]]


def _grouped(path: Path) -> Iterator[Group]:
    for number, record in json_lines(path):
        question, positives, negatives = (record.get(name) for name in ("qid", "pos", "neg"))
        if question is None or not isinstance(positives, list) or not isinstance(negatives, list):
            raise EvaluationError('the record needs "qid", "pos" and "neg"', where=f"{path}:{number}")
        yield str(question), [str(name) for name in positives], [str(name) for name in negatives]


def held_out_questions(path: Path) -> list[str]:
    """The one list of questions that the protocol measures and that a training leaves out.

    Args:
        path: the train-eval triples; its first 500 different questions count.

    Raises:
        EvaluationError: a line is no triple of ids.
    """
    found: dict[str, None] = {}
    for question, _, _ in id_triples(path):
        found.setdefault(question)
        if len(found) == TRAIN_QUESTIONS:
            break
    return list(found)


def id_triples(path: Path) -> Iterator[tuple[str, str, str]]:
    """Ids of a question, a relevant passage and a negative, line by line.

    Raises:
        EvaluationError: a line is no triple of ids.
    """
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 3:
            raise EvaluationError(
                "three ids are expected: question, relevant passage, negative", where=f"{path}:{number}"
            )
        question, positive, negative = (decode_id(field, path, number) for field in fields)
        yield question, positive, negative


def _from_triples(path: Path, kept: list[str]) -> Iterator[Group]:
    groups: dict[str, tuple[dict[str, None], dict[str, None]]] = {question: ({}, {}) for question in kept}
    for question, positive, negative in id_triples(path):
        if question in groups:
            positives, negatives = groups[question]
            positives[positive] = None
            if len(negatives) < TRAIN_NEGATIVES:
                negatives[negative] = None
    for question, (positives, negatives) in groups.items():
        yield question, list(positives), list(negatives)


def _candidates(groups: Iterator[Group]) -> tuple[Run, Qrels]:
    """A run that ranks all candidates of a question equally, and qrels of its positives."""
    candidates: dict[str, dict[str, float]] = {}
    relevant: dict[str, dict[str, int]] = {}
    for question, positives, negatives in groups:
        if not positives:
            continue
        candidates[question] = dict.fromkeys(chain(positives, negatives), 0.0)
        relevant[question] = dict.fromkeys(positives, 1)
    if not candidates:
        raise EvaluationError("the candidate file has no question with a relevant passage")
    return Run(candidates, name="candidates"), Qrels(relevant, name="candidates")

"""Groups of data that name passages by id: BEIR folders, ir_datasets, mMARCO's triples, mined hard negatives."""

import random
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import TrainingError
from engine.evaluation.corpora import json_lines, read_corpus
from engine.evaluation.lines import numbered_lines
from engine.evaluation.qrels import Qrels
from engine.evaluation.runs import Run
from engine.training.examples import Group, checked_text
from engine.training.spool import Spool

__all__ = ["Candidates", "Skipped", "from_hard_negatives", "from_qrels", "from_triples", "resolved"]

_LEXICAL = "bm25"
"""The one system of the hard negatives that is no dense retriever."""


@dataclass(slots=True)
class Skipped:
    """What the data held but training leaves out.

    Attributes:
        held_out: questions kept for evaluation.
        without_text: questions that the questions' file does not have.
        without_positives: questions none of whose relevant passages the corpus has.
        without_negatives: questions that nothing is left to compare with.
        passages: named passages that the corpus does not have, or that are empty.
        without_ids: groups whose questions have no ids, so that none could be held out; they are not left out.
    """

    held_out: int = 0
    without_text: int = 0
    without_positives: int = 0
    without_negatives: int = 0
    passages: int = 0
    without_ids: int = 0

    def lines(self) -> list[str]:
        """One line for each kind that there is."""
        reasons = (
            (self.held_out, "questions kept for evaluation"),
            (self.without_text, "questions without a text"),
            (self.without_positives, "questions without a relevant passage in the corpus"),
            (self.without_negatives, "questions without a negative"),
            (self.passages, "passages that the corpus does not have, or that are empty"),
        )
        lines = [f"left out {count:,} {what}" for count, what in reasons if count]
        taken = f"took {self.without_ids:,} groups whose questions have no ids, held out or not"
        return [*lines, taken] if self.without_ids else lines


@dataclass(slots=True)
class Candidates:
    """Ids of the passages of each question: all that are relevant, and at most `most` others, drawn evenly.

    Ids are held once; a question costs about 200 bytes and 4 for each of its passages.
    """

    most: int
    seed: int = 0
    names: dict[str, int] = field(default_factory=dict)
    positives: dict[str, "array[int]"] = field(default_factory=dict)
    negatives: dict[str, "array[int]"] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, question: str, positives: Iterable[str], negatives: Iterable[str]) -> None:
        """Adds passages to a question (algorithm R: Vitter 1985); what is known already is not added again."""
        relevant = self.positives.setdefault(question, array("i"))
        others = self.negatives.setdefault(question, array("i"))
        for name in positives:
            if (number := self._number(name)) not in relevant:
                relevant.append(number)
        seen = self._seen.get(question, 0)
        for name in negatives:
            place = len(others) if len(others) < self.most else self._random.randrange(seen + 1)
            seen += 1
            if place < self.most and (number := self._number(name)) not in others:
                others[place : place + 1] = array("i", [number])
        self._seen[question] = seen

    def _number(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))


def from_triples(
    triples: Iterable[tuple[str, str, str]], most: int, seed: int, held_out: Collection[str]
) -> Candidates:
    """Candidates of (question, relevant passage, negative) ids, in any order and number."""
    found = Candidates(most, seed)
    for question, positive, negative in triples:
        if question not in held_out:
            found.add(question, (positive,), (negative,))
    return found


def from_hard_negatives(path: Path, most: int, seed: int, held_out: Collection[str]) -> Candidates:
    """Candidates of the layout of msmarco-hard-negatives: {"qid", "pos": [id…], "neg": {system: [id…]}}.

    BM25's are left out: the recipe that this layout serves takes those of the twelve dense retrievers.

    Raises:
        TrainingError: a line has another layout.
    """
    found = Candidates(most, seed)
    for number, record in json_lines(path):
        where = f"{path}:{number}"
        question, positives, systems = (record.get(name) for name in ("qid", "pos", "neg"))
        if question is None or not isinstance(positives, list) or not isinstance(systems, dict):
            raise TrainingError('the record needs "qid", "pos" and "neg" by system', where=where)
        if str(question) in held_out:
            continue
        if not positives:  # the published file has such questions; they are left out and counted in the end
            systems = {}
        relevant = {str(name) for name in positives}
        mined = {str(name): None for system, names in systems.items() if system != _LEXICAL for name in names}
        found.add(str(question), sorted(relevant), [name for name in mined if name not in relevant])
    return found


def from_qrels(
    qrels: Qrels, source: str, most: int, seed: int, held_out: Collection[str], run: Run | None
) -> Candidates:
    """Candidates of judgements, with negatives of a run in its order, or else at random from the corpus.

    Raises:
        TrainingError: a judged question has no relevant passage.
    """
    found = Candidates(most, seed)
    random_ = random.Random(seed)
    names = [] if run is not None else [passage.id for passage in read_corpus(source)]
    for question, grades in qrels.items():
        relevant = [name for name, grade in grades.items() if grade > 0]
        if not relevant:
            raise TrainingError(f"question {question!r} has no relevant passage", where=_first_line(qrels, question))
        if question in held_out:
            continue
        if run is None:
            drawn = random_.sample(names, min(most + len(relevant), len(names)))
        else:
            drawn = list(run[question].documents) if question in run else []
        found.add(question, relevant, [name for name in drawn if grades.get(name, 0) < 1][:most])
    return found


def _first_line(qrels: Qrels, question: str) -> str:
    """Where judgements, of a file, first name a question."""
    if not Path(qrels.name).is_file():
        return qrels.name
    lines = numbered_lines(Path(qrels.name))
    found = next((number for number, line in lines if line.split(maxsplit=1)[0] == question.encode()), None)
    return f"{qrels.name}:{found}"


def resolved(
    candidates: Candidates, questions: Mapping[str, str], corpus: str, held_out: Collection[str], skipped: Skipped
) -> Iterator[Group]:
    """The groups that candidates amount to; the texts of their passages wait on disk.

    Args:
        candidates: ids.
        questions: texts by id.
        corpus: what `read_corpus` reads.
        held_out: questions that no training sees.
        skipped: counted up.

    Raises:
        TrainingError: a text that no tokenizer takes.
    """
    spool, row = Spool(), array("q", [-1]) * len(candidates.names)
    for passage in read_corpus(corpus):
        number = candidates.names.get(passage.id)
        if number is not None and passage.input.strip():
            row[number] = spool.append(checked_text(passage.input, f"passage {passage.id!r}", corpus))
    skipped.passages += sum(1 for at in row if at < 0)
    skipped.held_out += sum(1 for question in held_out if question in questions)
    for question, relevant in candidates.positives.items():
        if not questions.get(question, "").strip():
            skipped.without_text += 1
            continue
        positives = [spool[row[number]] for number in relevant if row[number] >= 0]
        negatives = [
            spool[row[number]]
            for number in candidates.negatives[question]
            if row[number] >= 0 and number not in relevant
        ]
        if not positives or not negatives:
            skipped.without_positives += not positives
            skipped.without_negatives += bool(positives)
            continue
        labels = (1.0,) * len(positives) + (0.0,) * len(negatives)
        text = checked_text(questions[question], f"question {question!r}", corpus)
        yield Group(text, (*positives, *negatives), labels)

"""What `--data` names, opened: groups, triples, judged pairs, BEIR folders, ir_datasets ids and copies of mMARCO."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EvaluationError, TrainingError
from engine.evaluation.corpora import IRDS, irds_dataset
from engine.evaluation.lines import numbered_lines
from engine.evaluation.mmarco import MMarco, held_out_questions, id_triples
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.questions import read_questions
from engine.evaluation.runs import decode_id, read_run
from engine.training import judged
from engine.training.candidates import (
    Candidates,
    Skipped,
    from_hard_negatives,
    from_qrels,
    from_triples,
    resolved,
)
from engine.training.examples import Group

__all__ = ["Origin", "Source", "parse_source", "read_held_out", "read_source"]

MMARCO = "mmarco:"
_WEIGHTED = re.compile(r"(?P<spec>.+)@(?P<times>[1-9]\d*)")
_PARTIES = ("mmarco/", "msmarco-passage/")
_COLUMNS_OF_TRIPLES = 3
_COLUMNS_OF_TREC = 4


@dataclass(frozen=True, slots=True)
class Source:
    """One `--data`.

    Attributes:
        spec: as it was given.
        name: a file, a BEIR folder, `irds:ID` or `mmarco:FOLDER`.
        beside: a TREC run of negatives, or a file of mined negatives; what follows a `+`.
        times: how often each group is taken in a pass; what follows an `@`.
    """

    spec: str
    name: str
    beside: Path | None = None
    times: int = 1

    @property
    def has_ids(self) -> bool:
        """Whether its questions have ids, by which some can be held out."""
        return self.name.startswith((MMARCO, IRDS)) or Path(self.name).is_dir()


@dataclass(frozen=True, slots=True)
class Origin:
    """What made the groups of a training, beside the data that the recipe names.

    Attributes:
        teacher: the cross-encoder that scored them.
        held_out: the list of questions that were never taken.
        skipped: counted up while they are read.
    """

    teacher: str | None = None
    held_out: str | None = None
    skipped: Skipped = field(default_factory=Skipped)


def parse_source(spec: str) -> Source:
    """What a `--data` says: `NAME[+FILE][@TIMES]`."""
    weighted = _WEIGHTED.fullmatch(spec)
    name, times = (weighted["spec"], int(weighted["times"])) if weighted else (spec, 1)
    if Path(name).exists():
        return Source(spec, name, None, times)
    first, plus, second = name.rpartition("+")
    return Source(spec, first, Path(second), times) if plus else Source(spec, name, None, times)


def read_source(
    source: Source, *, negatives: int, seed: int, held_out: Collection[str] | None, skipped: Skipped
) -> Iterator[Group]:
    """Streams the groups of a source, each as often as it says.

    Args:
        source: what to read.
        negatives: at most this many are kept of a question whose data names more by id.
        seed: of their drawing.
        held_out: ids of questions that are never taken; None where nobody named them.
        skipped: counted up.

    Raises:
        TrainingError: nothing to read there, or data that cannot be learnt from, named by its line.
        EvaluationError: a file of the field's formats is broken, named by its line.
    """
    for group in _groups(source, negatives, seed, held_out, skipped):
        skipped.without_ids += held_out is not None and not source.has_ids
        for _ in range(source.times):
            yield group


def _groups(
    source: Source, most: int, seed: int, held_out: Collection[str] | None, skipped: Skipped
) -> Iterator[Group]:
    if source.name.startswith(MMARCO):
        return _from_mmarco(source, most, seed, held_out, skipped)
    if source.name.startswith(IRDS):
        return _from_irds(source, most, seed, held_out, skipped)
    path = Path(source.name)
    if path.is_dir():
        qrels = path / "qrels" / "train.tsv"
        if not qrels.is_file():
            raise TrainingError("not a BEIR folder to train on: it has no qrels/train.tsv", where=path)
        return _from_judgements(source, read_qrels(qrels), most, seed, held_out or (), skipped)
    if source.beside is not None:
        raise TrainingError("negatives of another file go with a BEIR folder, irds: or mmarco:", where=source.spec)
    if not path.is_file():
        raise TrainingError("no such file or folder", where=path)
    return judged.read_file(path)


def _from_judgements(
    source: Source, qrels: Qrels, most: int, seed: int, held_out: Collection[str], skipped: Skipped
) -> Iterator[Group]:
    run = read_run(source.beside) if source.beside else None
    questions = dict(read_questions(source.name, only=qrels))
    candidates = from_qrels(qrels, source.name, most, seed, held_out, run)
    return resolved(candidates, questions, source.name, held_out, skipped)


def _from_irds(
    source: Source, most: int, seed: int, held_out: Collection[str] | None, skipped: Skipped
) -> Iterator[Group]:
    if held_out is None and source.name.removeprefix(IRDS).startswith(_PARTIES):
        raise TrainingError(
            "the 500 training questions that mmarco-fr-train500 measures must be left out",
            where=source.spec,
            hint="name msmarco-qidpidtriples.rnd-shuf.train-eval.tsv with --held-out",
        )
    kept_out = frozenset(held_out or ())
    with irds_dataset(source.name) as dataset:
        has_triples = source.beside is None and dataset.has_docpairs()
        candidates = _triples_of(dataset, most, seed, kept_out) if has_triples else None
    if candidates is None:
        return _from_judgements(source, read_qrels(source.name), most, seed, kept_out, skipped)
    questions = dict(read_questions(source.name))
    return resolved(candidates, questions, source.name, kept_out, skipped)


def _triples_of(dataset: object, most: int, seed: int, held_out: Collection[str]) -> Candidates:
    pairs = ((one.query_id, one.doc_id_a, one.doc_id_b) for one in dataset.docpairs_iter())  # type: ignore[attr-defined]
    return from_triples(pairs, most, seed, held_out)


def _from_mmarco(
    source: Source, most: int, seed: int, held_out: Collection[str] | None, skipped: Skipped
) -> Iterator[Group]:
    folder = source.name.removeprefix(MMARCO)
    mmarco = MMarco(folder or None)
    kept_out = frozenset(held_out if held_out is not None else mmarco.held_out())
    path = source.beside or mmarco.train_triples()
    _, first = next(numbered_lines(path), (1, b""))
    if first.startswith(b"{"):
        candidates = from_hard_negatives(path, most, seed, kept_out)
    else:
        candidates = from_triples(id_triples(path), most, seed, kept_out)
    questions = dict(read_questions(mmarco.all_train_questions()))
    return resolved(candidates, questions, str(mmarco.collection()), kept_out, skipped)


def read_held_out(path: Path) -> frozenset[str]:
    """Ids of questions that no training may see: of the train-eval triples, or else the first column of each line.

    So a line may be an id alone, an id, a tab and the question, or a judgement of TREC's or BEIR's qrels. Three columns
    without BEIR's header are triples, of which the protocol's 500 questions count.

    Raises:
        EvaluationError: the file cannot be read, or a line is none of these.
    """
    _, first = next(numbered_lines(path), (1, b""))
    columns = _columns(first)
    if len(columns) == _COLUMNS_OF_TRIPLES and columns[0] != b"query-id":
        return frozenset(held_out_questions(path))
    found = set()
    for number, line in numbered_lines(path):
        columns = _columns(line)
        if b"\t" not in line.strip() and len(columns) not in (1, _COLUMNS_OF_TREC):
            reason = "an id, an id, a tab and a question, or a judgement is expected"
            raise EvaluationError(reason, where=f"{path}:{number}")
        found.add(decode_id(columns[0], path, number))
    return frozenset(found)


def _columns(line: bytes) -> list[bytes]:
    return line.strip().split(b"\t") if b"\t" in line.strip() else line.split()

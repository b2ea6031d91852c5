"""TREC runs: reading, writing, and the one order of their documents.

The order is trec_eval's everywhere, in memory, in the files written and in every measure: descending score as a
32-bit float (what trec_eval keeps), ties by descending document id, compared byte by byte.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import EvaluationError
from engine.evaluation.lines import numbered_lines, odd_character, replacing

if TYPE_CHECKING:
    import pandas

__all__ = ["Ranked", "Run", "format_ranking", "rank", "read_run", "write_run"]

_SEPARATOR = "\n"  # between packed ids: the one character that no id of a line-based file can hold
_COLUMNS = 6


class Ranked(NamedTuple):
    """Documents of one question in the order of the run. `scores` is float64[n]."""

    documents: tuple[str, ...]
    scores: NDArray[np.float64]


def rank(documents: Sequence[str], scores: ArrayLike) -> Ranked:
    """Puts documents in trec_eval's order (form_res_rels.c: float scores descending, then docno descending)."""
    values = np.asarray(scores, dtype=np.float64)
    with np.errstate(over="ignore"):
        keys = values.astype(np.float32)
    if len(values) < 2 or bool(np.all(keys[:-1] > keys[1:])):
        return Ranked(tuple(documents), values)
    by_name = np.array(sorted(range(len(documents)), key=documents.__getitem__, reverse=True), dtype=np.int64)
    order = by_name[np.argsort(-keys[by_name], kind="stable")]
    return Ranked(tuple(documents[i] for i in order), values[order])


class Run(Mapping[str, Ranked]):
    """What a system answered: a ranking for each question, in the order the questions came.

    Rankings are held packed, about 8 bytes and the id's length for a line, so that 7 million lines fit in 150 MB.

    Args:
        rankings: by question, documents and their scores.
        name: what tables call the run.

    Raises:
        EvaluationError: a score is no finite number, or an id is no text, is empty, or holds whitespace or a control
            character.
    """

    def __init__(self, rankings: Mapping[str, Mapping[str, float]], *, name: str = "run") -> None:
        self.name = name
        self._packed: dict[str, tuple[bytes, NDArray[np.float64]]] = {}
        for question, scored in rankings.items():
            check_ids((question, *scored), lambda reason: EvaluationError(reason, where=f"run {name}"))
            self._put(question, list(scored), np.fromiter(scored.values(), np.float64, len(scored)))

    def _put(self, question: str, documents: Sequence[str], scores: NDArray[np.float64]) -> None:
        if not np.isfinite(scores).all():
            document = documents[int(np.isfinite(scores).argmin())]
            raise EvaluationError(
                f"the score of document {document!r} for question {question!r} is not a finite number",
                where=f"run {self.name}",
            )
        ranked = rank(documents, scores)
        self._packed[question] = (_SEPARATOR.join(ranked.documents).encode(), ranked.scores)

    def __getitem__(self, question: str) -> Ranked:
        names, scores = self._packed[question]
        return Ranked(tuple(names.decode().split(_SEPARATOR)) if len(scores) else (), scores)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {len(self)} questions, {self.lines} lines)"

    @property
    def lines(self) -> int:
        """Documents over all questions."""
        return sum(len(scores) for _, scores in self._packed.values())

    @property
    def fingerprint(self) -> str:
        """sha256 of questions, documents and scores, whatever file they came from."""
        digest = hashlib.sha256()
        for question, (names, scores) in self._packed.items():
            digest.update(f"{question}\t{len(scores)}\n".encode() + names + scores.tobytes())
        return digest.hexdigest()

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame of question, document, rank (from 1) and score."""
        import pandas as pd

        rows = [
            (q, d, place, s) for q, ranked in self.items() for place, (d, s) in enumerate(zip(*ranked, strict=True), 1)
        ]
        frame = pd.DataFrame(rows, columns=["question", "document", "rank", "score"])
        return frame.astype({"rank": np.int64, "score": np.float64})


def check_ids(names: Iterable[str], refuse: Callable[[str], EvaluationError]) -> None:
    """Raises what `refuse` makes of the reason when a name is no text, empty, or holds a blank or control character."""
    for name in names:
        if not isinstance(name, str):
            raise refuse(f"the id {name!r} is no text")
        if reason := odd_character(name):
            raise refuse(reason)


class _Lines(NamedTuple):
    """What was read of one question so far: the number in the file, the document and the score of each line."""

    numbers: list[int]
    documents: list[bytes]
    scores: list[float]


def read_run(path: str | Path, *, name: str | None = None) -> Run:
    """Reads a TREC run (`question Q0 document rank score tag`), plain or gzipped.

    Scores rank the documents; the rank column is not read, as in trec_eval. A question's lines need not be together.

    Args:
        path: the file.
        name: what tables call the run; the file's name without its ending otherwise.

    Raises:
        EvaluationError: the file cannot be read or holds no line, or a line has not six columns, an odd id, a score
            that is no finite number, or a document that its question already has; the line is named.
    """
    path = Path(path)
    run = Run({}, name=name or run_name(path))
    groups: dict[bytes, _Lines] = {}
    scattered: set[bytes] = set()  # questions that came back after another: packed at the end
    current: bytes | None = None
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != _COLUMNS:
            raise EvaluationError(
                f"{len(fields)} columns where a TREC run has {_COLUMNS}: question Q0 document rank score tag",
                where=f"{path}:{number}",
            )
        if fields[0] != current:
            if current is not None and current not in scattered:
                _pack(run, path, current, groups.pop(current))
            current = fields[0]
            group = groups.get(current) or _reopened(run, current)
            if group.numbers:
                scattered.add(current)
            groups[current] = group
        try:
            group.scores.append(float(fields[4]))
        except ValueError:
            score = fields[4].decode(errors="replace")
            raise EvaluationError(f"the score {score!r} is not a number", where=f"{path}:{number}") from None
        group.documents.append(fields[2])
        group.numbers.append(number)
    if current is None:
        raise EvaluationError("the run is empty", where=path, hint="did its system find nothing, or stop early?")
    for question, group in groups.items():
        _pack(run, path, question, group)
    return run


def _reopened(run: Run, question: bytes) -> _Lines:
    """A group to read into: what the run already has of this question, or nothing."""
    documents, scores = run.get(question.decode(errors="replace"), ((), np.empty(0)))
    return _Lines([0] * len(documents), [name.encode() for name in documents], scores.tolist())


def run_name(path: Path) -> str:
    """`results/bm25.trec.gz` is called `bm25`."""
    stem = path.name.removesuffix(".gz")
    return Path(stem).stem or stem


def _pack(run: Run, path: Path, question: bytes, lines: _Lines) -> None:
    """Checks the lines of one question at once, and looks for the guilty one only when there is one."""
    scores = np.array(lines.scores, dtype=np.float64)
    odd = ~np.isfinite(scores)
    if bool(odd.any()):
        place = int(odd.argmax())
        reason = "not a number (NaN)" if np.isnan(scores[place]) else "infinite"
        raise EvaluationError(f"the score is {reason}", where=f"{path}:{lines.numbers[place]}")
    documents = [decode_id(name, path, number) for name, number in zip(lines.documents, lines.numbers, strict=True)]
    if len(set(documents)) != len(documents):
        seen: set[str] = set()
        for name, number in zip(documents, lines.numbers, strict=True):
            if name in seen:
                raise EvaluationError(
                    f"document {name!r} stands twice for question {question.decode(errors='replace')!r}",
                    where=f"{path}:{number}",
                )
            seen.add(name)
    run._put(decode_id(question, path, lines.numbers[0]), documents, scores)


def decode_id(name: bytes, path: Path, number: int) -> str:
    """An id of a line as text; refused, with the line's number, when it is no UTF-8 or holds an odd character."""
    if name.isalnum():  # ASCII letters and digits: nothing to refuse
        return name.decode("ascii")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise EvaluationError(f"the id {name!r} is not UTF-8", where=f"{path}:{number}") from None
    if reason := odd_character(text):
        raise EvaluationError(reason, where=f"{path}:{number}")
    return text


def format_ranking(question: str, ranked: Ranked, tag: str) -> str:
    """The lines of one question: rank from 1, scores so that reading them gives the same 64-bit float back."""
    lines = zip(ranked.documents, ranked.scores.tolist(), strict=True)
    return "".join(
        f"{question} Q0 {document} {place} {score!r} {tag}\n" for place, (document, score) in enumerate(lines, 1)
    )


def checked(question: str, documents: Sequence[str], scores: ArrayLike) -> Ranked:
    """A ranking in the run's order that a TREC file can hold.

    Raises:
        EvaluationError: an odd id, a score that is no finite number, or a document named twice.
    """
    where = f"question {question!r}"
    check_ids(
        (question, *documents), lambda reason: EvaluationError(f"{reason}: a TREC run cannot hold it", where=where)
    )
    ranked = rank(documents, scores)
    if len(set(ranked.documents)) != len(ranked.documents):
        twice = next(name for name in documents if list(documents).count(name) > 1)
        raise EvaluationError(f"document {twice!r} is ranked twice", where=where)
    if not np.isfinite(ranked.scores).all():
        document = ranked.documents[int(np.isfinite(ranked.scores).argmin())]
        raise EvaluationError(f"the score of document {document!r} is not a finite number", where=where)
    return ranked


def write_run(
    run: Mapping[str, Any] | Iterable[tuple[str, Sequence[str], ArrayLike]], path: str | Path, *, tag: str = "fouille"
) -> int:
    """Writes a TREC run in one stream; the file appears whole or not at all.

    Args:
        run: a `Run`, a mapping of question to `{document: score}`, or (question, documents, scores) one by one.
        path: where to; gzipped when it ends in `.gz`.
        tag: the system's name in the last column.

    Returns:
        How many lines were written.

    Raises:
        EvaluationError: an odd id, a score that is no finite number, a document ranked twice, or a question that comes
            twice.
        StorageError: the system refused to write.
    """
    seen: set[str] = set()
    check_ids((tag,), lambda reason: EvaluationError(f"{reason}: it cannot be the tag of a run"))
    lines = 0
    with replacing(Path(path)) as stream:
        for question, documents, scores in _rankings(run):
            ranked = checked(question, documents, scores)
            if question in seen:
                raise EvaluationError("comes twice", where=f"question {question!r}")
            seen.add(question)
            stream.write(format_ranking(question, ranked, tag))
            lines += len(ranked.documents)
    return lines


def _rankings(
    run: Mapping[str, Any] | Iterable[tuple[str, Sequence[str], ArrayLike]],
) -> Iterator[tuple[str, Sequence[str], ArrayLike]]:
    if not isinstance(run, Mapping):
        yield from run
        return
    for question, ranking in run.items():
        if isinstance(ranking, Mapping):
            yield question, list(ranking), list(ranking.values())
        else:
            yield question, *ranking

"""Judgements: TREC qrels, BEIR's TSV and ir_datasets, read and written."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from engine.errors import EvaluationError
from engine.evaluation.corpora import IRDS, irds_dataset
from engine.evaluation.lines import numbered_lines, replacing
from engine.evaluation.runs import check_ids, decode_id

if TYPE_CHECKING:
    import pandas

__all__ = ["Qrels", "read_qrels", "write_qrels"]

_BEIR_HEADER = [b"query-id", b"corpus-id", b"score"]
_TREC, _BEIR = 4, 3
_GREATEST = 2**31 - 1  # trec_eval's grades are 32-bit: beyond them it measures nothing, and says nothing


class Qrels(Mapping[str, dict[str, int]]):
    """How relevant which documents are to each question; a grade of 1 or more is relevant.

    Args:
        judgements: grades by question and document.
        name: where they come from, for messages and provenance.

    Raises:
        EvaluationError: an id is no text, or a grade no whole number.
    """

    def __init__(self, judgements: Mapping[str, Mapping[str, int]], *, name: str = "qrels") -> None:
        self.name = name
        self._grades = {question: dict(grades) for question, grades in judgements.items()}
        for question, grades in self._grades.items():
            for document, grade in grades.items():
                if type(grade) is not int or type(document) is not str or not isinstance(question, str):
                    grades[document] = _whole(grade, document, question, name)

    def __getitem__(self, question: str) -> dict[str, int]:
        return self._grades[question]

    def __iter__(self) -> Iterator[str]:
        return iter(self._grades)

    def __len__(self) -> int:
        return len(self._grades)

    def __repr__(self) -> str:
        return f"Qrels({self.name!r}, {len(self)} questions, {sum(map(len, self._grades.values()))} judgements)"

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame of question, document and relevance."""
        import pandas as pd

        rows = [(q, d, grade) for q, grades in self.items() for d, grade in grades.items()]
        return pd.DataFrame(rows, columns=["question", "document", "relevance"])


def _whole(grade: object, document: object, question: object, where: str) -> int:
    """A grade as numpy or pandas hold it, or JSON: a whole number all the same."""
    for name in (question, document):
        if not isinstance(name, str):
            raise EvaluationError(f"the id {name!r} is no text", where=where)
    if not isinstance(grade, SupportsFloat) or not float(grade).is_integer():
        raise EvaluationError(
            f"the grade {grade!r} of document {document!r} for question {question!r} is not an integer", where=where
        )
    return int(float(grade))


def read_qrels(source: str | Path) -> Qrels:
    """Reads judgements.

    Args:
        source: a TREC file (`question 0 document grade`) or a BEIR file (a header, then `question document grade`),
            perhaps gzipped; a BEIR folder that holds one split, `FOLDER/qrels/SPLIT.tsv` otherwise; or `irds:ID`.

    Raises:
        EvaluationError: nothing to read there, or a line with other columns, an odd id, a grade that is no 32-bit
            integer, or a document judged twice and differently; the line is named.
    """
    spec = str(source)
    if spec.startswith(IRDS):
        return _from_irds(spec)
    path = _split_of(Path(source)) if Path(source).is_dir() else Path(source)
    grades: dict[str, dict[str, int]] = {}
    columns = 0
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        tabbed = line.split(b"\t")
        if not columns and tabbed == _BEIR_HEADER:
            columns = _BEIR
            continue
        fields = tabbed if columns == _BEIR else line.split()
        columns = columns or len(fields)
        if columns not in (_TREC, _BEIR) or len(fields) != columns:
            raise EvaluationError(
                f"{len(fields)} columns where TREC qrels have 4 (question 0 document grade) and BEIR's have 3",
                where=where,
            )
        question, document = decode_id(fields[0], path, number), decode_id(fields[-2], path, number)
        try:
            grade = int(fields[-1])
        except ValueError:
            shown = fields[-1].decode(errors="replace")
            raise EvaluationError(f"the grade {shown!r} is not an integer", where=where) from None
        if abs(grade) > _GREATEST:
            raise EvaluationError(f"the grade {grade} is beyond 32 bits", where=where)
        if grades.setdefault(question, {}).setdefault(document, grade) != grade:
            raise EvaluationError(f"{document!r} is judged twice and differently for {question!r}", where=where)
    if not grades:
        raise EvaluationError("holds no judgement", where=path)
    return Qrels(grades, name=str(source))


def _split_of(folder: Path) -> Path:
    splits = sorted((folder / "qrels").glob("*.tsv"))
    if len(splits) == 1:
        return splits[0]
    found = ", ".join(str(split) for split in splits)
    raise EvaluationError(
        f"{len(splits)} splits under qrels/" if splits else "no qrels/*.tsv in this folder",
        where=folder,
        hint=f"name one: {found}" if found else "name the file itself",
    )


def _from_irds(spec: str) -> Qrels:
    grades: dict[str, dict[str, int]] = {}
    with irds_dataset(spec) as dataset:
        if not dataset.has_qrels():
            raise EvaluationError("this ir_datasets collection has no qrels", where=spec)
        for judgement in dataset.qrels_iter():
            grades.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    return Qrels(grades, name=spec)


def write_qrels(qrels: Mapping[str, Mapping[str, int]], path: str | Path, *, layout: str = "trec") -> None:
    """Writes judgements in the order they stand, whole or not at all.

    Args:
        qrels: grades by question and document.
        path: where to; gzipped when it ends in `.gz`.
        layout: `trec` (four columns) or `beir` (three, tab-separated, under a header).

    Raises:
        EvaluationError: an odd id, or no such layout.
        StorageError: the system refused to write.
    """
    if layout not in ("trec", "beir"):
        raise EvaluationError(f"no layout {layout!r} for qrels", hint="trec or beir")
    for question, grades in qrels.items():
        check_ids((question, *grades), lambda reason: EvaluationError(f"{reason}: qrels cannot hold it"))
    with replacing(Path(path)) as stream:
        if layout == "beir":
            stream.write("query-id\tcorpus-id\tscore\n")
        template = "{0} 0 {1} {2}\n" if layout == "trec" else "{0}\t{1}\t{2}\n"
        for question, grades in qrels.items():
            stream.writelines(template.format(question, document, grade) for document, grade in grades.items())

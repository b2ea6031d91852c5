"""Measures of runs against qrels, by ir-measures; what is missing is counted and scores zero."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DependencyMissing, EvaluationError
from engine.evaluation.defaults import DEFAULT_MEASURES
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.runs import Run, read_run

if TYPE_CHECKING:
    import pandas

__all__ = ["Evaluation", "evaluate", "parse_measures"]

_ALIASES = {"mrr": "RR", "rr": "RR", "map": "AP", "recall": "R", "precision": "P", "rprec": "Rprec", "ndcg": "nDCG"}
_BETWEEN = re.compile(r"[\s,]+(?![^(]*\))")  # not within parentheses: P(rel=1,judged_only=True)@5
_CHUNK = 256  # questions measured at a time: memory stays flat whatever the run's length


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run measured.

    Attributes:
        run: its name.
        questions: those of the qrels, in their order.
        scores: float64[questions] by measure, named as they were asked for.
        unanswered: questions of the qrels without a result in the run; they score zero.
        unjudged: questions of the run that the qrels do not have; they are left out.
        without_relevant: questions whose qrels hold no relevant document; they score zero, as in trec_eval.
        cut_at: documents of each question that the run ends at; 0 where most rankings end before the longest.
        beyond: measures with a cutoff beyond that.
    """

    run: str
    questions: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]] = field(repr=False)
    unanswered: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    without_relevant: tuple[str, ...] = ()
    cut_at: int = 0
    beyond: tuple[str, ...] = ()

    @property
    def means(self) -> dict[str, float]:
        """Mean over the questions of the qrels, by measure."""
        return {measure: float(values.mean()) for measure, values in self.scores.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each thing that was missing, with its count and an example."""
        reasons = (
            (self.unanswered, "of the qrels without a result in the run: scored zero"),
            (self.unjudged, "of the run that the qrels do not have: left out"),
            (self.without_relevant, "without a relevant document in the qrels: scored zero"),
        )
        told = [
            f"{self.run}: {len(missing)} question{'s' * (len(missing) > 1)} {what} (such as {missing[0]})"
            for missing, what in reasons
            if missing
        ]
        if self.beyond:
            told.append(f"{self.run}: {' '.join(self.beyond)} of the {self.cut_at:,} documents that the run ends at")
        return tuple(told)

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame with a row for each question and a column for each measure."""
        import pandas as pd

        return pd.DataFrame(dict(self.scores), index=pd.Index(self.questions, name="question"))


def parse_measures(measures: str | Sequence[str]) -> dict[str, Any]:
    """The ir-measures object for each measure, by the name it was asked for.

    Names are ir-measures' own (`nDCG@10`, `P(rel=2)@5`), and `MRR@k`, `MAP`, `Recall@k`, `Precision@k`, `RPrec`.

    Raises:
        EvaluationError: no such measure, or one whose program is not installed.
        DependencyMissing: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ImportError:
        raise DependencyMissing("ir-measures is not installed", hint="pip install 'fouille[eval]'") from None
    names = [name for name in _BETWEEN.split(measures) if name] if isinstance(measures, str) else list(measures)
    if not names:
        raise EvaluationError("no measure is named", hint=f"say, {DEFAULT_MEASURES}")
    parsed = {}
    for name in names:
        stem, at, cutoff = name.partition("@")
        try:
            measure = ir_measures.parse_measure(_ALIASES.get(stem.lower(), stem) + at + cutoff)
            measure.validate_params()
            is_mean = isinstance(measure.aggregator(), ir_measures.MeanAgg)  # others count questions or documents
            known = is_mean and ir_measures.DefaultPipeline.supports(measure)
            if not known or measure.params.get("cutoff", 1) < 1:
                raise ValueError
        except (NameError, SyntaxError, ValueError, TypeError, KeyError, AssertionError):
            raise EvaluationError(
                f"no measure {name!r}", hint="RPrec MRR@10 nDCG@10 R@100 P@10 AP and the others of ir-measures"
            ) from None
        parsed[name] = measure
    return parsed


def evaluate(
    run: Run | str | Path | Mapping[str, Mapping[str, float]],
    qrels: Qrels | str | Path | Mapping[str, Mapping[str, int]],
    measures: str | Sequence[str] = DEFAULT_MEASURES,
) -> Evaluation:
    """Measures a run; numbers equal trec_eval's, averaged over the questions of the qrels (its option `-c`).

    Every measure sees the documents in the one order that `engine.evaluation.runs` describes: ir-measures computes some
    by trec_eval and others by itself, with another rule for ties.

    Args:
        run: a `Run`, a file, or scores by question and document.
        qrels: `Qrels`, anything that `read_qrels` reads, or grades by question and document.
        measures: names parted by blanks, or a sequence of them.

    Raises:
        EvaluationError: an unknown measure, an unreadable file, or a run that answers none of the questions judged.
    """
    parsed = parse_measures(measures)
    run, qrels = as_run(run), as_qrels(qrels)
    unanswered = tuple(question for question in qrels if question not in run or not run[question].documents)
    if not qrels or len(unanswered) == len(qrels):
        examples = f"qrels: {next(iter(qrels), 'none')}; run: {next(iter(run), 'none')}"
        raise EvaluationError(
            f"the run answers none of the {len(qrels)} questions judged ({examples})",
            where=run.name,
            hint="are these the qrels of its questions?",
        )
    questions = tuple(qrels)
    scores = {name: np.zeros(len(questions)) for name in parsed}
    row = {question: index for index, question in enumerate(questions)}
    for question, name, value in _measured(parsed, qrels, run):
        scores[name][row[question]] = value
    cut_at = _cut_at(run)
    return Evaluation(
        run=run.name,
        questions=questions,
        scores=scores,
        unanswered=unanswered,
        unjudged=tuple(question for question in run if question not in qrels),
        without_relevant=tuple(q for q, grades in qrels.items() if all(grade < 1 for grade in grades.values())),
        cut_at=cut_at,
        beyond=tuple(name for name, one in parsed.items() if 0 < cut_at < one.params.get("cutoff", 0)),
    )


def _cut_at(run: Run) -> int:
    """How many documents of each question a run was cut at; 0 where most rankings are shorter, or hold all there is."""
    lengths = Counter(len(ranked.documents) for ranked in run.values())
    longest = max(lengths, default=0)
    if lengths[longest] * 2 <= len(run):
        return 0
    whole = next(set(ranked.documents) for ranked in run.values() if len(ranked.documents) == longest)
    return 0 if all(whole.issuperset(ranked.documents) for ranked in run.values()) else longest


def as_run(run: Run | str | Path | Mapping[str, Mapping[str, float]]) -> Run:
    """The run itself, read from its file, or made of scores by question and document."""
    if isinstance(run, str | Path):
        return read_run(run)
    return run if isinstance(run, Run) else Run(run)


def as_qrels(qrels: Qrels | str | Path | Mapping[str, Mapping[str, int]]) -> Qrels:
    """The qrels themselves, read from their file, or made of grades by question and document."""
    if isinstance(qrels, str | Path):
        return read_qrels(qrels)
    return qrels if isinstance(qrels, Qrels) else Qrels(qrels)


def _measured(measures: Mapping[str, Any], qrels: Qrels, run: Run) -> Iterator[tuple[str, str, float]]:
    import ir_measures

    names: dict[Any, list[str]] = {}
    for name, measure in measures.items():
        names.setdefault(measure, []).append(name)
    answered = iter([question for question in qrels if question in run])
    while chunk := list(islice(answered, _CHUNK)):
        judged = {question: qrels[question] for question in chunk}
        # Places instead of scores: strictly descending, so that no provider has a tie left to break.
        places = {
            question: {document: float(-place) for place, document in enumerate(run[question].documents)}
            for question in chunk
        }
        try:
            metrics = list(ir_measures.iter_calc(list(names), judged, places))
        except Exception as error:  # of any kind: the programs behind ir-measures have no tree of errors
            asked = " ".join(sorted(name for several in names.values() for name in several))
            raise EvaluationError(f"cannot be measured by {asked}: {error or type(error).__name__}") from error
        for metric in metrics:
            for name in names[metric.measure]:
                yield metric.query_id, name, metric.value

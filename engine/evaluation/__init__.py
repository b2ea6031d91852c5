"""Measuring retrieval as the field does: TREC runs and qrels, BEIR and ir_datasets, measures, significance, protocols.

The public names are loaded on first use; pandas, matplotlib, torch and the JVM only by what needs them.
"""

from typing import TYPE_CHECKING

from engine.lazy import lazily

if TYPE_CHECKING:
    from engine.evaluation.measures import Evaluation, evaluate
    from engine.evaluation.qrels import Qrels, read_qrels, write_qrels
    from engine.evaluation.questions import Question, read_questions
    from engine.evaluation.runs import Run, read_run, write_run
    from engine.evaluation.significance import Comparison, compare

__all__ = [
    "Comparison",
    "Evaluation",
    "Qrels",
    "Question",
    "Run",
    "compare",
    "evaluate",
    "read_qrels",
    "read_questions",
    "read_run",
    "write_qrels",
    "write_run",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Comparison": "engine.evaluation.significance",
        "Evaluation": "engine.evaluation.measures",
        "Qrels": "engine.evaluation.qrels",
        "Question": "engine.evaluation.questions",
        "Run": "engine.evaluation.runs",
        "compare": "engine.evaluation.significance",
        "evaluate": "engine.evaluation.measures",
        "read_qrels": "engine.evaluation.qrels",
        "read_questions": "engine.evaluation.questions",
        "read_run": "engine.evaluation.runs",
        "write_qrels": "engine.evaluation.qrels",
        "write_run": "engine.evaluation.runs",
    },
)

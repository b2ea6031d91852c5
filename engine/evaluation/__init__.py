"""Measuring retrieval as the field does: TREC runs and qrels, BEIR and ir_datasets, measures, significance, protocols.

The public names are loaded on first use; pandas, matplotlib, torch and the JVM only by what needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

_HOME = {
    "Comparison": "significance",
    "Evaluation": "measures",
    "Qrels": "qrels",
    "Question": "questions",
    "Run": "runs",
    "compare": "significance",
    "evaluate": "measures",
    "read_qrels": "qrels",
    "read_questions": "questions",
    "read_run": "runs",
    "write_qrels": "qrels",
    "write_run": "runs",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'engine.evaluation' has no attribute {name!r}")
    value = getattr(import_module(f"engine.evaluation.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

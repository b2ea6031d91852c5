"""The sample collection: short French documents in many formats, questions, and which document answers each.

`DOCUMENTS` is a folder to index as it is, `QUESTIONS` holds a question a line after its id and a tab, `QRELS` the
judgements in the BEIR form.
"""

from importlib.resources import files

__all__ = ["DOCUMENTS", "QRELS", "QUESTIONS"]

DOCUMENTS = files(__name__) / "documents"
QUESTIONS = files(__name__) / "questions.tsv"
QRELS = files(__name__) / "qrels.tsv"

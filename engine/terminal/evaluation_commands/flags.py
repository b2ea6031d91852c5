"""The flags that only the measuring commands have, each declared once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["Judgements", "OnlyJudged", "Output", "Questions", "QuestionsOption", "Restart", "TableFormat", "Tag"]

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The TREC run to write.")]
Tag = Annotated[str, typer.Option("--tag", metavar="NAME", help="The last column of the run.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop an interrupted run instead of going on.")]
Judgements = Annotated[
    str, typer.Option("--qrels", metavar="QRELS", help="TREC or BEIR qrels, a BEIR folder, or irds:ID.")
]
OnlyJudged = Annotated[
    str | None, typer.Option("--qrels", metavar="QRELS", help="Only the questions that these qrels judge.")
]
_QUESTIONS = "TSV (id, text), JSONL, a BEIR folder, or irds:ID."
Questions = Annotated[str, typer.Argument(metavar="QUESTIONS", help=_QUESTIONS)]
QuestionsOption = Annotated[str, typer.Option("--questions", metavar="QUESTIONS", help=_QUESTIONS)]
TableFormat = Annotated[
    Literal["text", "json", "csv", "latex"],
    typer.Option("--format", metavar="FORMAT", help="text, json, csv or latex."),
]

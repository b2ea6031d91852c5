"""`fouille mine`: hard negatives that a collection's first stage finds, as groups to train on."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import InvalidOption
from engine.records import SearchOptions
from engine.terminal import options as flag
from engine.terminal.evaluation_commands import flags
from engine.terminal.given import as_the_collection_can, open_collection, settings_of
from engine.terminal.output import counted, note
from engine.terminal.progress import progress

__all__ = ["EXAMPLE", "mine"]

EXAMPLE = "\b\nExample:\n  fouille mine train.tsv --qrels train.qrels -c guide -o mined.jsonl.gz --ranks 5-100"


def mine(
    context: typer.Context,
    questions: flags.Questions,
    qrels: flags.Judgements,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Groups to write, JSONL or JSONL.gz.")],
    collection: flag.Collection = None,
    ranks: Annotated[str, typer.Option("--ranks", metavar="A-B", help="First-stage ranks to sample from.")] = "1-100",
    negatives: Annotated[int, typer.Option("--negatives", metavar="N", help="Negatives per question, at most.")] = 15,
    first_stage: flag.FirstStageOption = None,
    reranker: flag.Reranker = None,
    max_score: Annotated[
        float | None, typer.Option("--max-score", metavar="X", help="Drop what the reranker scores above X, 0 to 1.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", metavar="X", help="Drop what scores above the best positive's logit minus X."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the sampling.")] = 0,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
) -> None:
    """Find hard negatives to train with.

    They are passages that rank high and that nobody called relevant. Each question becomes a group of its relevant
    documents and of negatives, half of them from the best quarter of the ranks, with the first stage's scores. Likely
    false negatives are dropped where a reranker is asked for its opinion.
    """
    from engine.evaluation.lines import replacing
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions
    from engine.models.shelf import Shelf
    from engine.training.examples import record_of
    from engine.training.mining import MineReport, Mining
    from engine.training.mining import mine as mined

    settings = settings_of(context)
    judging = max_score is not None or margin is not None
    if judging and settings.reranker is None:
        raise InvalidOption("a cross-encoder has to score the negatives", hint="name one with --reranker")
    if reranker is not None and not judging:
        raise InvalidOption("what it scores too high is not said", where="--reranker", hint="--max-score or --margin")
    first, last = _ranks(ranks)
    stage = SearchOptions(first_stage=settings.first_stage)
    mining = Mining(first, last, negatives, stage.first_stage, max_score, margin, seed)
    judgements = read_qrels(qrels)
    asked = read_questions(questions, only=judgements)
    model = Shelf(settings).reranker(settings.reranker, fetch=True) if judging and settings.reranker else None
    report = MineReport()
    with open_collection(settings) as target, progress() as bar, replacing(output) as stream:
        if first_stage is None:
            mining = replace(mining, first_stage=as_the_collection_can(stage, target).first_stage)
        for group in mined(target, asked, judgements, mining, report, reranker=model, progress=bar):
            stream.write(json.dumps(record_of(group), ensure_ascii=False) + "\n")
    counts = (
        (report.without_positives, "question", "left out, whose relevant documents the collection does not have"),
        (report.without_negatives, "question", "left out, for which nothing was left"),
        (report.copies, "passage", "dropped whose text is that of a relevant one"),
        (report.dropped, "passage", "dropped that the reranker calls relevant"),
    )
    note(f"{counted(count, what)} {how}" for count, what, how in counts if count)
    note([f"{counted(report.questions, 'question')}, {counted(report.negatives, 'negative')}: {output}"])


def _ranks(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        return (int(first), int(last)) if dash else (1, int(first))
    except ValueError:
        raise InvalidOption(f"{text!r} is no range of ranks", where="--ranks", hint="such as 5-100") from None

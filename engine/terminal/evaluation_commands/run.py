"""`fouille run`: many questions over one collection, into a TREC run."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

from typing import Annotated

import typer

from engine.terminal import options as flag
from engine.terminal.evaluation_commands import flags
from engine.terminal.given import as_the_collection_can, open_collection, search_options, settings_of
from engine.terminal.output import counted, note
from engine.terminal.progress import progress

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "\b\nExample:\n  fouille run questions.tsv -c guide -o bm25.trec --first-stage bm25 --no-rerank"


def run(
    context: typer.Context,
    questions: flags.Questions,
    file: flags.Output,
    collection: flag.Collection = None,
    hits: Annotated[
        int,
        typer.Option(
            "-k", "--k", metavar="N", help="Documents to rank for each question; at least as many are reranked."
        ),
    ] = 1000,
    judged: flags.OnlyJudged = None,
    candidates: flag.Candidates = None,
    first_stage: flag.FirstStageOption = None,
    k1: flag.K1 = None,
    b: flag.B = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    interpolate: flag.Interpolate = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    long_passages: flag.LongPassagesOption = None,
    keys: flag.In = None,
    where: flag.Where = None,
    tag: flags.Tag = "fouille",
    restart: flags.Restart = False,
) -> None:
    """Search for many questions and write a TREC run.

    A run names each document once. An interrupted run goes on where it stopped. What made the run stands in a JSON file
    beside it.
    """
    from engine.evaluation.batch import run_questions
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions

    settings = settings_of(context)
    asked = read_questions(questions, only=read_qrels(judged) if judged else None)
    options = search_options(settings, k=hits, rerank=do_rerank, keys=keys, where=flag.pairs_of(where or ()))
    with open_collection(settings) as target, progress() as report:
        if first_stage is None:
            options = as_the_collection_can(options, target)
        done = run_questions(target, asked, file, options, tag=tag, restart=restart, progress=report)
    note(done.notices)
    if done.resumed:
        note([f"went on after {counted(done.resumed, 'question')} answered before"])
    if done.without_hits:
        note([f"{counted(done.without_hits, 'question')} without a hit: no line in the run"])
    speed = done.questions / done.seconds if done.seconds else 0.0
    answered = f"{done.first_stage}, reranked by {done.reranker}" if done.reranker else done.first_stage
    made = f"{counted(done.questions, 'question')}, {counted(done.lines, 'line')} ({answered})"
    note([f"{made}, {speed:,.1f} questions/s: {file}"])

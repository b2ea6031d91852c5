"""`fouille rerank`: any system's run, reranked over a collection or a corpus."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import InvalidOption
from engine.settings import Settings, model_name
from engine.terminal import options as flag
from engine.terminal.evaluation_commands import flags
from engine.terminal.given import open_collection, settings_of
from engine.terminal.output import counted, note
from engine.terminal.progress import LOADING, progress

if TYPE_CHECKING:
    from engine.evaluation.rerank import Passages
    from engine.models import CrossEncoder

__all__ = ["EXAMPLE", "cross_encoder", "rerank"]

EXAMPLE = "\b\nExample:\n  fouille rerank bm25.trec --questions questions.tsv --corpus beir/piaf -o reranked.trec"


def rerank(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A TREC run of any system.")],
    questions: flags.QuestionsOption,
    file: flags.Output,
    collection: flag.Collection = None,
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", metavar="CORPUS", help="Passages: a BEIR folder, JSONL, TSV or irds:ID; else -c."),
    ] = None,
    judged: flags.OnlyJudged = None,
    reranker: flag.Reranker = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", help="Rerank each question's first N, leave out the others.")
    ] = None,
    interpolate: flag.Interpolate = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    long_passages: flag.LongPassagesOption = None,
    tag: flags.Tag = "fouille",
    restart: flags.Restart = False,
) -> None:
    """Rerank any system's run over a collection or a corpus.

    All pairs go to the model in one stream of full batches.
    """
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions
    from engine.evaluation.rerank import rerank as rerank_run
    from engine.evaluation.runs import read_run

    if depth is not None and depth < 1:
        raise InvalidOption(f"{depth} is less than 1", where="--depth")
    if corpus is not None and collection is not None:
        raise InvalidOption("both --corpus and -c", hint="passages come from one of them")
    settings = settings_of(context)
    first, judgements = read_run(run), read_qrels(judged) if judged else None
    asked = read_questions(questions, only=judgements)
    with _passages(settings, corpus) as (passages, memory), progress({"pairs": LOADING}) as report:
        own = memory.get("reranker") or settings.reranker_or_default
        name = settings.reranker or own
        weight = settings.interpolate
        if weight is None and model_name(name) == model_name(own):
            weight = memory.get("interpolate")  # tuned for the collection's own reranker
        done = rerank_run(
            first,
            asked,
            passages,
            cross_encoder(settings, name),
            file,
            only=judgements,
            depth=depth,
            interpolate=weight,
            long_passages=settings.long_passages or memory.get("long_passages") or "truncate",
            tag=tag,
            restart=restart,
            progress=report,
        )
    note(done.notices)
    if done.resumed:
        note([f"went on after {counted(done.resumed, 'question')} reranked before"])
    sizes = ((done.questions, "question"), (done.pairs, "pair"), (done.passages, "passage"), (done.truncated, "pair"))
    made = ", ".join(counted(*size) for size in sizes)
    note([f"{made} truncated, {done.pairs_per_second:,.0f} pairs/s: {file}"])


@contextmanager
def _passages(settings: Settings, corpus: str | None) -> Iterator["tuple[Passages, Mapping[str, Any]]"]:
    """Where passages are read, and what a collection remembers of reranking them; a corpus remembers nothing."""
    from engine.evaluation.rerank import CollectionPassages, CorpusPassages

    if corpus is not None:
        yield CorpusPassages(corpus), {}
        return
    with open_collection(settings) as target:
        yield CollectionPassages(target), target.memory


def cross_encoder(settings: Settings, name: str) -> "CrossEncoder":
    """A cross-encoder as the settings run it, fetched where it is not on this machine; notes what it has to say."""
    from engine.models.shelf import Shelf

    found = Shelf(settings).reranker(name, fetch=True)
    note(found.notices)
    return found

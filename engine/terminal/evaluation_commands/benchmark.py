"""`fouille benchmark`: a named protocol from start to end."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

from pathlib import Path
from typing import Annotated

import typer

from engine.records import FirstStage
from engine.terminal import options as flag
from engine.terminal.evaluation_commands import flags
from engine.terminal.evaluation_commands.rerank import cross_encoder
from engine.terminal.given import settings_of
from engine.terminal.output import note, say_table
from engine.terminal.progress import progress

__all__ = ["PROTOCOLS", "benchmark"]

PROTOCOLS = """\b
Protocols (source; candidates; measures):
  mmarco-fr-small-dev   mMARCO French small dev, 6,980 questions, 8.8 million passages;
                        the first stage's top 1000 of the whole collection and, in a table of
                        its own, the file of positives and ColBERTv2 hard negatives, 1,000 a
                        question; MRR@10 R@10 R@100 R@500 R@1000
  mmarco-fr-train500    500 training questions of msmarco-qidpidtriples.rnd-shuf.train-eval;
                        relevant passages and up to 200 BM25 negatives each;
                        RPrec MRR@10 R@10 R@20 R@50 R@100
  beir:PATH[:SPLIT]     a BEIR folder; the first stage's top; nDCG@10 MRR@10 R@100
  irds:ID               an ir_datasets id; the same
  mteb:TASK             a French task of MTEB, through mteb; its main score
\b
A copy of mMARCO for --data has the hub's layout (unicamp-dl/mmarco):
  google/collections/french_collection.tsv
  google/queries/dev/french_queries.dev.small.tsv
  google/queries/train/french_queries.train.tsv
  qrels.dev.small.tsv
  colbertv2-negatives.dev.small.jsonl
  msmarco-qidpidtriples.rnd-shuf.train-eval.tsv
\b
Example:
  fouille benchmark mmarco-fr-train500 --data mmarco --reranker models/l6"""


def benchmark(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A protocol, see below.")],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where collection, runs and provenance are kept.")
    ] = Path("benchmark"),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="A copy of mMARCO, see below; else downloaded.")
    ] = None,
    first_stage: Annotated[
        FirstStage | None,
        typer.Option("--first-stage", metavar="STAGE", help="bm25, dense or hybrid (both, fused). [default: bm25]"),
    ] = None,
    encoder: flag.Encoder = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="First-stage candidates per question.")] = 1000,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="The first N questions only, for a trial.")
    ] = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    restart: flags.Restart = False,
    output: flags.TableFormat = "text",
) -> None:
    """Run a named protocol from start to end.

    The figures that the models' cards publish stand beside.
    """
    from engine.evaluation.benchmark import benchmark as run_protocol
    from engine.evaluation.protocols import protocol_of
    from engine.evaluation.reports import render, together

    protocol_of(name, limit)  # before a model is loaded
    settings = settings_of(context)
    model = cross_encoder(settings, settings.reranker_or_default) if do_rerank is not False else None
    with progress() as report:
        tables = run_protocol(
            name,
            folder / name.replace("/", "_").replace(":", "-"),
            reranker=model,
            data=data,
            first_stage=settings.first_stage or "bm25",
            encoder=settings.encoder_or_default if settings.encoder or settings.first_stage else None,
            settings=settings,
            depth=depth,
            limit=limit,
            restart=restart,
            progress=report,
        )
    for table in tables:
        note(f"{table.title}: {notice}" for notice in table.notices)
    if output == "json":
        from engine.terminal.formats import to_json

        kept = ("protocol", "title", "notices")
        records = [{name: getattr(table, name) for name in kept} | {"rows": table.table()} for table in tables]
        say_table(to_json(records), output)
        return
    titles = [f"{table.protocol}: {table.title}\n" if output == "text" else "" for table in tables]
    shown = (title + render(table.table(), output) for title, table in zip(titles, tables, strict=True))
    say_table(together(shown, output), output)

"""`fouille prune-vocabulary`: a multilingual model cut to the pieces that a corpus uses."""

from pathlib import Path
from typing import Annotated

import typer

from engine.terminal import options as flag
from engine.terminal.output import note
from engine.terminal.progress import progress

__all__ = ["EXAMPLE", "prune_vocabulary"]

EXAMPLE = (
    "\b\nExample:\n  fouille prune-vocabulary intfloat/multilingual-e5-small beir/piaf beir/droit-fr -o me5-small-fr"
)


def prune_vocabulary(
    model: flag.ModelName,
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS", help="BEIR folders (with their questions), JSONL, TSV, or irds:ID."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model to write; must not exist.")
    ],
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
) -> None:
    """Cut a model's vocabulary to what a corpus uses.

    Tokens and scores on its text stay as they are. Special tokens, single characters and bytes stay, so that any other
    text can still be read.
    """
    from engine.training.vocabulary import prune

    with progress() as bar:
        found = prune(model, corpus, output, half=half, progress=bar)
    note(
        [
            f"{found.kept:,} of {found.pieces:,} pieces, {found.bytes_after / 1e6:,.0f} of "
            f"{found.bytes_before / 1e6:,.0f} MB, {found.texts:,} texts with the same tokens: {output}"
        ]
    )

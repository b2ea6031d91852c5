"""The flags of a training, each declared once; those of a recipe bear the names of its fields."""

from pathlib import Path
from typing import Annotated, Literal

import typer

N, X = "N", "X"


def _option(name: str, metavar: str, text: str) -> object:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


Base = Annotated[str | None, _option("--base", "MODEL", "The model to start from: a name or a folder.")]
Data = Annotated[list[str] | None, _option("--data", "DATA", "What to learn from, see below; may be repeated.")]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model's folder, to make.")]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="A recipe, see below.")]
RecipeFile = Annotated[Path | None, _option("--recipe", "FILE", "TOML whose keys replace the preset's.")]
Teacher = Annotated[str | None, _option("--teacher", "MODEL", "A cross-encoder that scores the data first.")]
HeldOut = Annotated[
    Path | None,
    _option("--held-out", "FILE", "Questions never taken: ids, questions, qrels, or the train-eval triples."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Dev = Annotated[
    str | None, _option("--dev", "QUESTIONS", "Dev questions to measure on: TSV, JSONL, a BEIR folder, or groups.")
]
DevQrels = Annotated[str | None, _option("--dev-qrels", "QRELS", "Their judgements.")]
DevRun = Annotated[Path | None, _option("--dev-run", "RUN", "A TREC run of their candidates; else -c's first stage.")]
DevCorpus = Annotated[str | None, _option("--dev-corpus", "CORPUS", "The passages of that run.")]
DevDepth = Annotated[int, typer.Option("--dev-depth", metavar=N, help="Candidates of each dev question.")]

CrossEncoderLoss = Annotated[
    Literal["binary", "listwise", "layerwise", "margin-mse"] | None,
    _option("--loss", "LOSS", "binary, listwise, layerwise or margin-mse."),
]
BiEncoderLoss = Annotated[
    Literal["contrastive", "margin-mse"] | None, _option("--loss", "LOSS", "contrastive or margin-mse.")
]
Layers = Annotated[str | None, _option("--layers", "LIST", "The base's layers to keep, from 0: 0,2,4 or 0-5.")]
Start = Annotated[str | None, _option("--start", "MODEL", "A student of the base, to go on from.")]
Frozen = Annotated[int | None, _option("--frozen", N, "So many lower layers, and the embeddings, stay as they are.")]
BitFit = Annotated[
    bool | None, typer.Option("--bitfit/--no-bitfit", help="Biases and layer norms alone learn, no matrix of the base.")
]
MaxLength = Annotated[int | None, _option("--max-length", N, "Tokens of a pair, or of a text.")]
Examples = Annotated[int | None, _option("--examples", N, "At most so many are drawn for a pass.")]
Negatives = Annotated[int | None, _option("--negatives", N, "To each positive.")]
Redraw = Annotated[bool | None, typer.Option("--redraw/--no-redraw", help="Whether each pass draws other negatives.")]
Boost = Annotated[float | None, _option("--boost", X, "Added to the teacher's score of a judged passage.")]
Anchor = Annotated[float | None, _option("--anchor", X, "Weight of the part that keeps a logit's level.")]
Epochs = Annotated[int | None, _option("--epochs", N, "Passes over the data, in the place of a preset's steps.")]
Steps = Annotated[int | None, _option("--steps", N, "Of the optimiser, whatever the passes.")]
Batch = Annotated[int | None, _option("--batch", N, "Examples of a step, on each device.")]
Accumulate = Annotated[int | None, _option("--accumulate", N, "Batches before the optimiser steps.")]
LearningRate = Annotated[float | None, _option("--learning-rate", X, "At its peak.")]
LayerDecay = Annotated[float | None, _option("--layer-decay", X, "Factor from a layer's rate to the one below.")]
Warmup = Annotated[float | None, _option("--warmup", X, "Steps from 1 up, a share of all steps below.")]
Schedule = Annotated[
    Literal["linear", "constant", "cosine"] | None, _option("--schedule", "HOW", "linear, constant or cosine.")
]
WeightDecay = Annotated[float | None, _option("--weight-decay", X, "AdamW's.")]
Dropout = Annotated[float | None, _option("--dropout", X, "Of all layers while they learn; else the base's own.")]
Temperature = Annotated[float | None, _option("--temperature", X, "Divides the cosines of a bi-encoder's loss.")]
EvaluateEvery = Annotated[int | None, _option("--evaluate-every", N, "Steps between figures, and checkpoints.")]
Patience = Annotated[int | None, _option("--patience", N, "Evaluations without a better figure before it stops.")]
Seed = Annotated[int | None, _option("--seed", N, "Of drawing, shuffling and new weights.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None, _option("--precision", "PRECISION", "auto, fp32, bf16 or fp16.")
]
Licence = Annotated[str | None, _option("--licence", "NAME", "Of the model, for its card.")]
DataLicence = Annotated[str | None, _option("--data-licence", "TEXT", "Of the data, for the card.")]

"""The flags of a training, each declared once; those of a recipe bear the names of its fields."""

from pathlib import Path
from typing import Annotated, Literal

import typer

N, X = "N", "X"


def _option(name: str, metavar: str, text: str) -> object:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


Base = Annotated[str | None, _option("--base", "MODEL", "The model to start from: a name or a folder.")]
Data = Annotated[list[str] | None, _option("--data", "DATA", "What to learn from, see below; may be repeated.")]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write the model to.")]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="A recipe, see below.")]
RecipeFile = Annotated[Path | None, _option("--recipe", "FILE", "TOML file whose values replace the preset's.")]
Teacher = Annotated[str | None, _option("--teacher", "MODEL", "A cross-encoder that scores the data before training.")]
HeldOut = Annotated[
    Path | None,
    _option(
        "--held-out", "FILE", "Questions to leave out of training: ids, questions, qrels, or the train-eval triples."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Dev = Annotated[
    str | None, _option("--dev", "QUESTIONS", "Dev questions to measure on: TSV, JSONL, a BEIR folder, or groups.")
]
DevQrels = Annotated[str | None, _option("--dev-qrels", "QRELS", "Judgements of the dev questions.")]
DevRun = Annotated[
    Path | None,
    _option("--dev-run", "RUN", "TREC run of the dev questions' candidates; else -c's first stage finds them."),
]
DevCorpus = Annotated[str | None, _option("--dev-corpus", "CORPUS", "Corpus of --dev-run's passages.")]
DevDepth = Annotated[int, typer.Option("--dev-depth", metavar=N, help="Candidates per dev question to rerank.")]

CrossEncoderLoss = Annotated[
    Literal["binary", "listwise", "layerwise", "margin-mse"] | None,
    _option("--loss", "LOSS", "What is minimised: binary, listwise, layerwise or margin-mse."),
]
BiEncoderLoss = Annotated[
    Literal["contrastive", "margin-mse"] | None,
    _option("--loss", "LOSS", "What is minimised: contrastive or margin-mse."),
]
Layers = Annotated[str | None, _option("--layers", "LIST", "The base's layers to keep, from 0: 0,2,4 or 0-5.")]
Start = Annotated[
    str | None, _option("--start", "MODEL", "A student of the base to go on training (--loss layerwise).")
]
Frozen = Annotated[int | None, _option("--frozen", N, "Freeze the embeddings and the lowest N layers.")]
BitFit = Annotated[
    bool | None, typer.Option("--bitfit/--no-bitfit", help="Train biases and layer norms alone, no matrix of the base.")
]
MaxLength = Annotated[int | None, _option("--max-length", N, "Tokens read of a pair, or of a bi-encoder's text.")]
Examples = Annotated[int | None, _option("--examples", N, "Examples drawn per pass, at most.")]
Negatives = Annotated[int | None, _option("--negatives", N, "Negatives per positive.")]
Redraw = Annotated[bool | None, typer.Option("--redraw/--no-redraw", help="Draw other negatives in each pass.")]
Boost = Annotated[float | None, _option("--boost", X, "Added to the teacher's score of a relevant passage.")]
Anchor = Annotated[
    float | None, _option("--anchor", X, "Weight of the part of the loss that fixes the level of the logits.")
]
Epochs = Annotated[int | None, _option("--epochs", N, "Passes over the data, instead of the preset's steps.")]
Steps = Annotated[int | None, _option("--steps", N, "Steps of the optimiser, instead of --epochs.")]
Batch = Annotated[int | None, _option("--batch", N, "Examples per batch, on each device.")]
Accumulate = Annotated[int | None, _option("--accumulate", N, "Batches per step of the optimiser.")]
LearningRate = Annotated[float | None, _option("--learning-rate", X, "Peak learning rate.")]
LayerDecay = Annotated[
    float | None, _option("--layer-decay", X, "Learning rate of a layer, as a share of the next higher one's.")
]
Warmup = Annotated[float | None, _option("--warmup", X, "Warm-up: steps if 1 or more, else a share of all steps.")]
Schedule = Annotated[
    Literal["linear", "constant", "cosine"] | None,
    _option("--schedule", "HOW", "Learning rate after the warm-up: linear, constant or cosine."),
]
WeightDecay = Annotated[float | None, _option("--weight-decay", X, "Weight decay of AdamW.")]
Dropout = Annotated[float | None, _option("--dropout", X, "Dropout of all layers in training; else the base's own.")]
Temperature = Annotated[float | None, _option("--temperature", X, "What the loss divides cosines by.")]
EvaluateEvery = Annotated[
    int | None, _option("--evaluate-every", N, "Steps between checkpoints, and measurements on the dev questions.")
]
Patience = Annotated[int | None, _option("--patience", N, "Stop after N measurements without a better one.")]
Seed = Annotated[int | None, _option("--seed", N, "Seed of sampling, shuffling and new weights.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None, _option("--precision", "PRECISION", "auto, fp32, bf16 or fp16.")
]
Licence = Annotated[str | None, _option("--licence", "NAME", "Licence of the model, for its card.")]
DataLicence = Annotated[str | None, _option("--data-licence", "TEXT", "Licences of the data, for the model's card.")]

"""The flags of the command line, each declared once: its type, help and shell completion."""

import os
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from engine import records
from engine.errors import InvalidOption

__all__ = [
    "K1",
    "AsJson",
    "B",
    "BatchTokens",
    "Candidates",
    "Collection",
    "Device",
    "Encoder",
    "Explain",
    "FirstStageOption",
    "Format",
    "Full",
    "IdColumn",
    "In",
    "Interpolate",
    "K",
    "LongPassagesOption",
    "MaxLength",
    "ModelName",
    "PerDocument",
    "Precision",
    "Prune",
    "QuestionId",
    "Rebuild",
    "Rerank",
    "Reranker",
    "SplitterOption",
    "Strict",
    "TextColumn",
    "Timing",
    "TitleColumn",
    "Where",
    "collection_names",
    "model_names",
    "pair",
    "pairs_of",
    "spellings",
    "typed",
]

_PRECISIONS = Literal["auto", records.Precision]


def collection_names(incomplete: str = "") -> list[str]:
    """Names of the collections in the user's data folder that begin so."""
    from engine.settings import data_dir

    try:
        found = sorted(path.name for path in (data_dir() / "collections").iterdir() if path.is_dir())
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete) and not name.startswith(".")]


def model_names(kind: str, incomplete: str = "") -> list[str]:
    """Names of the known models of a kind (`cross-encoder`, `bi-encoder`) that begin so."""
    from engine.models.registry import obtainable

    return [model.name for model in obtainable() if model.kind == kind and model.name.startswith(incomplete)]


def pair(text: str) -> tuple[str, str]:
    """The two sides of KEY=VALUE.

    Raises:
        InvalidOption: it is not of that form.
    """
    name, equals, value = typed(text).partition("=")
    if not name.strip() or not equals:
        raise InvalidOption(f"{text!r} is not KEY=VALUE", where="--where")
    return name.strip(), value.strip()


def pairs_of(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What several KEY=VALUE ask: by key all its values; raises as `pair`."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in map(pair, texts):
        found[name] = (*found.get(name, ()), value)
    return found


def typed(text: str) -> str:
    """An argument as text: a byte that is no UTF-8 becomes a replacement character."""
    return str(os.fsencode(text), "utf-8", "replace")


def spellings(key: str) -> tuple[str, str]:
    """A key as it was typed, and in NFC, as the keys of files are."""
    key = typed(key)
    return key, unicodedata.normalize("NFC", key)


def _rerankers(incomplete: str) -> list[str]:
    return model_names("cross-encoder", incomplete)


def _encoders(incomplete: str) -> list[str]:
    return model_names("bi-encoder", incomplete)


def _models(incomplete: str) -> list[str]:
    return _rerankers(incomplete) + _encoders(incomplete)


Collection = Annotated[
    str | None,
    typer.Option(
        "--collection",
        "-c",
        metavar="NAME",
        help="A name in the user's data folder, or the path of a folder. [default: default]",
        autocompletion=collection_names,
    ),
]
FirstStageOption = Annotated[
    records.FirstStage | None,
    typer.Option(
        "--first-stage",
        metavar="STAGE",
        help="bm25, dense or hybrid (both, fused). [default: the collection's, else hybrid]",
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="MODEL",
        help="Bi-encoder: a name or a folder. [default: the collection's, else what ships]",
        autocompletion=_encoders,
    ),
]
Reranker = Annotated[
    str | None,
    typer.Option(
        "--reranker",
        metavar="MODEL",
        help="Cross-encoder: a name or a folder. [default: the collection's, else what ships]",
        autocompletion=_rerankers,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="auto (a GPU if there is one), cpu, cuda, cuda:1 … [default: auto]"
    ),
]
Precision = Annotated[
    _PRECISIONS | None,
    typer.Option("--precision", metavar="PRECISION", help="auto, fp32, bf16, fp16 or int8. [default: auto]"),
]
BatchTokens = Annotated[
    int | None,
    typer.Option("--batch-tokens", metavar="N", help="Tokens in a batch of the models. [default: the device's]"),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", metavar="N", help="Tokens that the reranker reads. [default: its own]")
]

ModelName = Annotated[
    str, typer.Argument(metavar="NAME", help="A model's name, or its folder.", autocompletion=_models)
]

# Indexing.
SplitterOption = Annotated[
    str | None,
    typer.Option(
        "--splitter",
        metavar="HOW",
        help="words:150:30 (words a passage, words shared) or none. [default: words:150:30]",
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove what these sources brought and no longer have.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Build the collection anew, and swap it in when it is ready.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad document, before anything is written.")]
IdColumn = Annotated[
    str | None, typer.Option("--id-column", metavar="NAME", help="CSV, TSV, JSONL: the documents' keys.")
]
TitleColumn = Annotated[
    str | None, typer.Option("--title-column", metavar="NAME", help="CSV, TSV, JSONL: their titles.")
]
TextColumn = Annotated[str | None, typer.Option("--text-column", metavar="NAME", help="CSV, TSV, JSONL: their texts.")]

# Searching.
K = Annotated[int | None, typer.Option("-k", "--k", metavar="N", help="Hits to show. [default: 10]")]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates", metavar="N", help="Passages that the reranker reads. [default: the reranker's, else 100]"
    ),
]
K1 = Annotated[
    float | None,
    typer.Option("--k1", metavar="X", help="BM25: how soon a repeated word counts no more. [default: 1.2]"),
]
B = Annotated[
    float | None, typer.Option("--b", metavar="X", help="BM25: how much long passages pay, 0 to 1. [default: 0.75]")
]
Rerank = Annotated[
    bool | None,
    typer.Option("--rerank/--no-rerank", help="Order the candidates by the cross-encoder. [default: if at hand]"),
]
Interpolate = Annotated[
    float | None,
    typer.Option(
        "--interpolate",
        metavar="W",
        help="Weight of the first stage's score in the order. [default: the reranker's, else 0]",
    ),
]
LongPassagesOption = Annotated[
    records.LongPassages | None,
    typer.Option(
        "--long-passages", metavar="HOW", help="truncate, or maxp: score windows and keep the best. [default: truncate]"
    ),
]
In = Annotated[str | None, typer.Option("--in", metavar="GLOB", help="Only documents whose key matches.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only documents with this metadata; may be repeated."),
]
PerDocument = Annotated[int | None, typer.Option("--per-document", metavar="N", help="Hits from one document at most.")]

# Showing.
Format = Annotated[
    Literal["text", "json", "jsonl", "csv", "trec"],
    typer.Option("--format", metavar="FORMAT", help="text, json, jsonl, csv or trec."),
]
AsJson = Annotated[Literal["text", "json"], typer.Option("--format", metavar="FORMAT", help="text or json.")]
QuestionId = Annotated[str, typer.Option("--qid", metavar="ID", help="The question's id in a TREC run.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show where each hit's place comes from.")]
Timing = Annotated[bool, typer.Option("--timing", help="Say on stderr where the time went.")]
Full = Annotated[bool, typer.Option("--full", help="Show whole passages, not excerpts.")]

"""What a command line amounts to: its settings, the collection that they name, the options of a search."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from engine.errors import CollectionNotFound
from engine.records import SearchOptions, SearchResult
from engine.settings import Settings, parse, resolve
from engine.terminal.options import collection_names
from engine.terminal.suggestions import did_you_mean

if TYPE_CHECKING:
    import typer

    from engine.collection import Collection
    from engine.models.shelf import Shelf

__all__ = [
    "as_the_collection_can",
    "filters",
    "nothing_found",
    "open_collection",
    "search_options",
    "settings_of",
    "without_effect",
]

_NAMES_SHOWN = 5


def settings_of(context: "typer.Context") -> Settings:
    """The settings that a command's flags, the environment and the config file amount to."""
    return resolve({field.name: context.params.get(field.name) for field in fields(Settings)})


def open_collection(settings: Settings, name: str | None = None, *, shelf: "Shelf | None" = None) -> "Collection":
    """A collection by name or path, else the one that the settings name.

    Args:
        settings: where bare names lie, and how its models run.
        name: which one.
        shelf: models already in memory.

    Raises:
        CollectionNotFound: there is none; names one that may have been meant.
        FouilleError: as `Collection.open`.
    """
    from engine.collection import Collection

    name = settings.collection if name is None else name
    try:
        return Collection.open(settings.collection_path(name), settings=settings, shelf=shelf)
    except CollectionNotFound as error:
        raise CollectionNotFound(error.what, where=error.where, hint=_other_than(name) or error.hint) from None


def _other_than(name: str) -> str | None:
    """Which collection to take where there is none of this name; None where none suggests itself."""
    known = collection_names()
    if name == Settings().collection and known:
        more = ", …" if len(known) > _NAMES_SHOWN else ""
        return f"choose one with -c NAME: {', '.join(known[:_NAMES_SHOWN])}{more}"
    return did_you_mean(name, known)


def search_options(settings: Settings, *, per_document: int | None = None, **chosen: Any) -> SearchOptions:
    """What to search with: what the settings say, the collection's own choice where they are silent.

    Raises:
        InvalidOption: `per_document` is no count.
    """
    if per_document is not None:
        parse("k", per_document, where="--per-document")
    return SearchOptions(
        candidates=settings.candidates,
        first_stage=settings.first_stage,
        reranker=settings.reranker,
        interpolate=settings.interpolate,
        k1=settings.k1,
        b=settings.b,
        long_passages=settings.long_passages,
        per_document=per_document,
        **chosen,
    )


def as_the_collection_can(options: SearchOptions, target: "Collection") -> SearchOptions:
    """The options without a first stage that the collection has no index for: a setting is for those that have one.

    Not for what a flag asks, which is refused where it cannot be had.
    """
    able = target.memory["first_stage"] in {"hybrid", options.first_stage}
    return options if able else replace(options, first_stage=None)


def filters(options: SearchOptions, mark: str = "") -> list[str]:
    """What restricts a search to some documents, as it was asked, each name behind `mark`."""
    asked = [] if options.keys is None else [("in", options.keys)]
    for name, values in options.where.items():
        several: Iterable[str] = [values] if isinstance(values, str) else values
        asked += [("where", f"{name}={value}") for value in several]
    # What is typed behind a flag goes through a shell first.
    return [f"{mark}{name} {shlex.quote(value) if mark == '--' else value}" for name, value in asked]


def without_effect(given: Mapping[str, Any], result: SearchResult) -> list[str]:
    """What to say of flags that a search did nothing with.

    Args:
        given: flags by parameter, None where they were not.
        result: what the search found.
    """
    idle: dict[str, tuple[str, ...]] = (
        {"the first stage is dense": ("k1", "b")} if result.first_stage == "dense" else {}
    )
    if result.reranker is None:
        reads = () if result.first_stage == "hybrid" else ("candidates",)  # a fusion is of so many of each side
        idle["nothing is reranked"] = (*reads, "reranker", "interpolate", "max_length", "long_passages")
    found = {
        why: [f"--{name.replace('_', '-')}" for name in names if given.get(name) is not None]
        for why, names in idle.items()
    }
    return [f"without effect, as {why}: {' '.join(flags)}" for why, flags in found.items() if flags]


def nothing_found(target: "Collection", options: SearchOptions, mark: str) -> str:
    """What to say of a search without hits: also what kept others out, its names behind `mark`."""
    if options.keys is not None and not target.keys(options.keys):
        folder = f"{options.keys.rstrip('/')}/*"
        hint = f" (for all in a folder: {folder})" if options.keys and target.keys(folder) else ""
        return f"no document's key matches {filters(replace(options, where={}), mark)[0]}{hint}"
    if asked := " ".join(filters(options, mark)):
        return f"no passage found under {asked}"
    return "no passage found" if target.keys() else "the collection is empty"

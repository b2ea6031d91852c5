"""What a command line amounts to: its settings, the collection that they name, the options of a search."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from engine.records import SearchOptions
from engine.settings import Settings, resolve

if TYPE_CHECKING:
    import typer

    from engine.collection import Collection

__all__ = ["open_collection", "search_options", "settings_of"]


def settings_of(context: "typer.Context") -> Settings:
    """The settings that a command's flags, the environment and the config file amount to."""
    return resolve({field.name: context.params.get(field.name) for field in fields(Settings)})


def open_collection(settings: Settings) -> "Collection":
    """The collection that the settings name; raises as `Collection.open`."""
    from engine.collection import Collection

    return Collection.open(settings.collection_path(), settings=settings)


def search_options(settings: Settings, **chosen: Any) -> SearchOptions:
    """What to search with: what the settings say, the collection's own choice where they are silent."""
    return SearchOptions(
        candidates=settings.candidates,
        first_stage=settings.first_stage,
        reranker=settings.reranker,
        interpolate=settings.interpolate,
        k1=settings.k1,
        b=settings.b,
        long_passages=settings.long_passages,
        **chosen,
    )

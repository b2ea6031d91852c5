"""fouille's engine: collections, search in two stages, models, measures.

The public names are loaded on first use, so that `import engine` costs no torch, no JVM and no FAISS.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.errors import FouilleError
    from engine.models import BiEncoder, CrossEncoder
    from engine.records import AddReport, Document, Hit, Passage, SearchOptions, SearchResult

__all__ = [
    "AddReport",
    "BiEncoder",
    "Collection",
    "CrossEncoder",
    "Document",
    "FouilleError",
    "Hit",
    "Passage",
    "SearchOptions",
    "SearchResult",
]

_HOME = {
    "Collection": "engine.collection",
    "FouilleError": "engine.errors",
    "BiEncoder": "engine.models",
    "CrossEncoder": "engine.models",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(import_module(_HOME.get(name, "engine.records")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

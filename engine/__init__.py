"""fouille's engine: collections, search in two stages, models, measures.

The public names are loaded on first use, so that `import engine` costs no torch, no JVM and no FAISS.
"""

from typing import TYPE_CHECKING

from engine.lazy import lazily

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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AddReport": "engine.records",
        "BiEncoder": "engine.models",
        "Collection": "engine.collection",
        "CrossEncoder": "engine.models",
        "Document": "engine.records",
        "FouilleError": "engine.errors",
        "Hit": "engine.records",
        "Passage": "engine.records",
        "SearchOptions": "engine.records",
        "SearchResult": "engine.records",
    },
)

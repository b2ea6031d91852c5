"""From files to passages: sources and their discovery, one reader per format, the splitter.

Each is loaded on first use; readers load lxml and pdfium only when a file of their format is met.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.documents.source import Columns, Source, open_source
    from engine.documents.splitter import Splitter
    from engine.documents.text import check_text

__all__ = ["Columns", "Source", "Splitter", "check_text", "open_source"]

_HOME = {"Splitter": "splitter", "check_text": "text"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'engine.documents' has no attribute {name!r}")
    value = getattr(import_module(f"engine.documents.{_HOME.get(name, 'source')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

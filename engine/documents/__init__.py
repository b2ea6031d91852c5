"""From files to passages: sources and their discovery, one reader per format, the splitter.

Each is loaded on first use; readers load lxml and pdfium only when a file of their format is met.
"""

from typing import TYPE_CHECKING

from engine.lazy import lazily

if TYPE_CHECKING:
    from engine.documents.source import Columns, Source, open_source
    from engine.documents.splitter import Splitter
    from engine.documents.text import check_text

__all__ = ["Columns", "Source", "Splitter", "check_text", "open_source"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Columns": "engine.documents.source",
        "Source": "engine.documents.source",
        "Splitter": "engine.documents.splitter",
        "check_text": "engine.documents.text",
        "open_source": "engine.documents.source",
    },
)

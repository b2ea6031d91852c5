"""From files to passages: sources and their discovery, one reader per format, the splitter.

Readers load lxml and pdfium only when a file of their format is met.
"""

from engine.documents.source import Columns, Source, open_source
from engine.documents.splitter import Splitter
from engine.documents.text import check_text

__all__ = ["Columns", "Source", "Splitter", "check_text", "open_source"]

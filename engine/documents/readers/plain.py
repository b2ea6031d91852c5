"""Plain text, as it is."""

from engine.documents.encoding import decode
from engine.documents.extraction import Extraction

__all__ = ["read"]


def read(content: bytes) -> Extraction:
    """Read plain text; its lines stay where they are."""
    text, guessed = decode(content)
    return Extraction(text, metadata={"encoding": guessed} if guessed else {}, has_lines=True)

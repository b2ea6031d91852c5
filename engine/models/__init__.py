"""Transformers at inference: named models, tokens and pairs, batches of a token budget, encoders and runtimes.

`CrossEncoder` scores question-passage pairs, `BiEncoder` turns texts into vectors; both are loaded on first use.
"""

from typing import TYPE_CHECKING

from engine.lazy import lazily

if TYPE_CHECKING:
    from engine.models.biencoder import BiEncoder
    from engine.models.crossencoder import CrossEncoder

__all__ = ["BiEncoder", "CrossEncoder"]

__getattr__, __dir__ = lazily(
    __name__, {"BiEncoder": "engine.models.biencoder", "CrossEncoder": "engine.models.crossencoder"}
)

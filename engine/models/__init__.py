"""Transformers at inference: named models, tokens and pairs, batches of a token budget, encoders and runtimes.

`CrossEncoder` scores question-passage pairs, `BiEncoder` turns texts into vectors; both are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.models.biencoder import BiEncoder
    from engine.models.crossencoder import CrossEncoder

__all__ = ["BiEncoder", "CrossEncoder"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'engine.models' has no attribute {name!r}")
    value = getattr(import_module(f"engine.models.{name.lower()}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

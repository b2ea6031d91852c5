"""The libraries' own words kept off the screen: progress bars, notices and warnings that are not for a person."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from engine.models.quiet import quiet_transformers

__all__ = ["quiet"]

_LOGGERS = ("sentence_transformers", "datasets", "accelerate", "torch.distributed")


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, transformers and what builds on it say nothing short of an error."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""Models in memory: each is found, loaded once, and kept for the next search."""

import gc
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from engine.errors import ModelNotFound
from engine.models import registry

if TYPE_CHECKING:
    from engine.models import BiEncoder, CrossEncoder
    from engine.settings import Settings

__all__ = ["Shelf"]


@dataclass(slots=True)
class Shelf:
    """The models of a process, by name, on one device and in one precision."""

    settings: "Settings"
    _encoders: "dict[str, BiEncoder]" = field(default_factory=dict)
    _rerankers: "dict[str, CrossEncoder]" = field(default_factory=dict)

    def at_hand(self, name: str) -> bool:
        """Whether the model is loaded, a folder or in the cache: no network is asked."""
        return name in self._encoders or name in self._rerankers or registry.locate(name) is not None

    def encoder(self, name: str, *, fetch: bool = False) -> "BiEncoder":
        """The bi-encoder of that name or folder; downloaded only when `fetch` says so.

        Raises:
            ModelNotFound: it is neither local nor, with `fetch`, to be downloaded.
        """
        if name not in self._encoders:
            from engine.models import BiEncoder

            self._locate(name, fetch=fetch)
            self._encoders[name] = BiEncoder(
                name, self.settings.device, self.settings.precision, batch_tokens=self.settings.batch_tokens
            )
        return self._encoders[name]

    def reranker(self, name: str, *, fetch: bool = False) -> "CrossEncoder":
        """The cross-encoder of that name or folder; downloaded only when `fetch` says so.

        Raises:
            ModelNotFound: it is neither local nor, with `fetch`, to be downloaded.
        """
        if name not in self._rerankers:
            from engine.models import CrossEncoder

            self._locate(name, fetch=fetch)
            self._rerankers[name] = CrossEncoder(
                name,
                self.settings.device,
                self.settings.precision,
                max_length=self.settings.max_length,
                batch_tokens=self.settings.batch_tokens,
            )
        return self._rerankers[name]

    @staticmethod
    def prepare() -> None:
        """Start importing torch in a thread, a cold search's longest wait; a later import waits only for the rest."""
        if "torch" not in sys.modules:
            threading.Thread(target=_import_torch, name="torch-import").start()

    @staticmethod
    def _locate(name: str, *, fetch: bool) -> None:
        if registry.locate(name) is None:
            if not fetch:
                raise ModelNotFound("the model is not on this machine", where=name, hint="name it to download it")
            registry.fetch(name)


def _import_torch() -> None:
    # A tenth of the import is the collector's, which finds nothing: modules are made to stay.
    collects = gc.isenabled()
    gc.disable()
    try:
        with suppress(ImportError):  # comes again where torch is used
            import_module("torch")
    finally:
        if collects:
            gc.enable()

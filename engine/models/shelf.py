"""Models in memory: each is found, loaded once, and kept for the next search."""

import gc
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import ModelNotFound
from engine.models import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.models import BiEncoder, CrossEncoder
    from engine.settings import Settings

__all__ = ["Shelf"]


@dataclass(slots=True)
class Shelf:
    """The models of a process, by name, on one device and in one precision."""

    settings: "Settings"
    _encoders: "dict[str, BiEncoder]" = field(default_factory=dict)
    _rerankers: "dict[str, CrossEncoder]" = field(default_factory=dict)
    _loading_encoder: threading.Lock = field(default_factory=threading.Lock)
    _loading_reranker: threading.Lock = field(default_factory=threading.Lock)

    def at_hand(self, name: str) -> bool:
        """Whether the model is loaded, a folder or in the cache: no network is asked."""
        return name in self._encoders or name in self._rerankers or registry.locate(name) is not None

    def encoder(self, name: str, *, fetch: bool = False) -> "BiEncoder":
        """The bi-encoder of that name or folder; downloaded only when `fetch` says so.

        Raises:
            ModelNotFound: it is neither local nor, with `fetch`, to be downloaded.
        """
        with self._loading_encoder:
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
        with self._loading_reranker:
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

    def prepare(self, encoder: str | None, reranker: str | None) -> None:
        """Start loading those that are at hand in a thread, while the caller starts Lucene.

        What cannot be loaded is told where it is asked for.
        """
        loads: list[Callable[[], object]] = []
        if encoder is not None and encoder not in self._encoders:
            loads.append(lambda: self.encoder(encoder).encode_queries(["?"]))  # its weights are read by then
        if reranker is not None and reranker not in self._rerankers:
            loads.append(partial(self.reranker, reranker))
        if loads:
            threading.Thread(target=_attempt, args=(loads,), name="fouille-models").start()

    @staticmethod
    def _locate(name: str, *, fetch: bool) -> None:
        if registry.locate(name) is None:
            if not fetch:
                raise ModelNotFound("the model is not on this machine", where=name, hint="name it to download it")
            registry.fetch(name)


def _attempt(loads: "Sequence[Callable[[], object]]") -> None:
    # A tenth of the imports is the collector's, which finds nothing: modules are made to stay.
    collects = gc.isenabled()
    gc.disable()
    try:
        for load in loads:
            with suppress(Exception):  # comes again where the model is used
                load()
    finally:
        if collects:
            gc.enable()

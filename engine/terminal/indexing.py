"""What `fouille index` does: make, widen or rebuild a collection as the flags ask, then bring it up to its sources."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.collection import Collection
from engine.documents import Source, Splitter
from engine.errors import (
    CollectionBusy,
    CollectionNotFound,
    CollectionOutdated,
    DocumentError,
    FouilleError,
    InvalidOption,
    SourceNotFound,
)
from engine.generation import CURRENT, generations
from engine.locking import locked
from engine.models import registry, roles
from engine.models.shelf import Shelf
from engine.records import AddReport
from engine.settings import Settings, model_name
from engine.terminal.progress import LOADING, progress

__all__ = ["NOTHING", "Asked", "bring_up_to_date", "known_locations"]

NOTHING = "nothing could be indexed: no collection was made"

# What goes on while every bar stands full: the encoder loads; then indexes are written and the reranker's tokens kept.
_ENCODES = {"encoding": LOADING}
_ENDS = {"finishing": "writing the indexes"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags say a collection should be; None where they are silent, and it stays as it is."""

    first_stage: str | None = None
    encoder: str | None = None
    reranker: str | None = None
    splitter: str | None = None


def bring_up_to_date(
    settings: Settings,
    sources: Sequence[Source],
    asked: Asked,
    *,
    prune: bool,
    rebuild: bool,
    strict: bool,
    notify: Callable[[str], None],
) -> AddReport:
    """Index sources into the settings' collection, which is made when there is none.

    Args:
        settings: which collection, its models' device, and what a new one takes where the flags are silent.
        sources: what to read.
        asked: what the flags say.
        prune: remove what the sources brought before and no longer have.
        rebuild: build the collection anew and swap it in.
        strict: stop at the first bad document, before anything is written.
        notify: told in one line each what a person should know.

    Raises:
        CollectionOutdated: the flags want what only a rebuild can change.
        FouilleError: as `Collection.create`, `rebuild` and `update`.
    """
    path, shelf = settings.collection_path(), Shelf(settings)
    if rebuild and (generations(path) or (path / CURRENT).exists()):
        # Not opened first: a rebuild is what mends a collection that cannot be.
        # Whether it will be encoded is not known before the old one is read: what waits is called by its end.
        with progress(_ENDS | _ENCODES) as report:
            return Collection.rebuild(
                path, sources, shelf=shelf, prune=prune, strict=strict, progress=report, **asdict(asked)
            )
    made = False
    try:
        target = Collection.open(path, shelf=shelf)
    except CollectionNotFound:
        wanted = asdict(asked) | {"first_stage": asked.first_stage or settings.first_stage}
        try:
            target = Collection.create(path, shelf=shelf, **wanted)
            made = True
        except InvalidOption:
            if not generations(path):
                raise
            target = Collection.open(path, shelf=shelf)  # another process was faster
        if wanted["first_stage"] is None and target.memory["first_stage"] == "bm25":
            notify(f"the encoder {target.memory['encoder']} is not on this machine: BM25 alone; see fouille models")
    encodes = asked.encoder is not None or (asked.first_stage or target.memory["first_stage"]) != "bm25"
    with target, progress(_ENCODES | _ENDS if encodes else _ENDS) as report:
        stage = _wanted_stage(target, asked, path)
        if not strict:
            _reconcile(target, asked, stage)
        try:
            done = target.update(sources, prune=prune, strict=strict, progress=report)
        except (DocumentError, SourceNotFound, KeyboardInterrupt):
            if made:
                with suppress(CollectionBusy):  # somebody else has found it useful
                    _unmake(target)
            raise
        if made and not done.passages:
            _unmake(target)
            done.notices.append(NOTHING)
        elif strict and _reconcile(target, asked, stage):
            # What was strictly read stands in the catalog; the index that is new is filled from there.
            done.seconds |= target.update((), progress=report).seconds
        return done


def known_locations(settings: Settings) -> frozenset[str]:
    """Where the documents of the settings' collection came from; nothing where there is none that can be read."""
    try:
        with Collection.open(settings.collection_path(), shelf=Shelf(settings)) as target:
            return frozenset(target.sources().values())
    except FouilleError:
        return frozenset()


def _unmake(target: Collection) -> None:
    """Take away a collection that was made for documents which it did not get, unless it got some after all."""
    with locked(target.path):
        if not target.keys():
            target.close()
            shutil.rmtree(target.path, ignore_errors=True)


def _wanted_stage(target: Collection, asked: Asked, path: Path) -> str | None:
    """The first stage that the flags ask for where the collection has another one, None where they agree.

    Raises:
        CollectionOutdated: the flags want what only a rebuild can change.
    """
    memory = target.memory
    if asked.splitter is not None and (splitter := str(Splitter.parse(asked.splitter))) != memory["splitter"]:
        raise _rebuild_needed(path, "splitter", memory["splitter"], splitter)
    dense = memory["first_stage"] != "bm25"
    if asked.encoder is not None and dense and (encoder := model_name(asked.encoder)) != memory["encoder"]:
        raise _rebuild_needed(path, "encoder", memory["encoder"], encoder)
    stage = asked.first_stage or ("hybrid" if asked.encoder is not None and not dense else None)
    return None if stage == memory["first_stage"] else stage


def _reconcile(target: Collection, asked: Asked, stage: str | None) -> bool:
    """Make a collection what the flags ask; whether an index is new, and has everything to apply."""
    if stage is not None:
        target.widen(stage, asked.encoder)
    if asked.reranker is not None and (reranker := model_name(asked.reranker)) != target.memory["reranker"]:
        roles.check_reranker(registry.fetch(asked.reranker))
        target.remember(reranker=reranker)
    return stage is not None


def _rebuild_needed(path: Path, what: str, has: str, wanted: str) -> CollectionOutdated:
    return CollectionOutdated(f"made with {what} {has}, not {wanted}", where=path, hint="change it with --rebuild")

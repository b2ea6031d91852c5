"""A collection's folder: which generation it points to, how one is made and takes another's place."""

import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.catalog import Catalog
from engine.errors import REBUILD, CollectionDamaged, CollectionNotFound
from engine.models import registry
from engine.models.shelf import Shelf
from engine.settings import model_name, parse
from indexes.analysis import DEFAULT_ANALYSIS
from indexes.durable import refused, replace_file

__all__ = ["CURRENT", "current", "fresh_memory", "generations", "make", "point_to", "set_aside", "sweep"]

CURRENT = "CURRENT"
SPLITTER = "words:150:30"
_DAMAGED = "damaged-"
_GENERATION = re.compile(r"g[1-9][0-9]*")


def current(folder: Path) -> Path:
    """The generation that a collection's folder points to.

    Raises:
        CollectionNotFound: there is no such folder, or it is no collection.
        CollectionDamaged: it points to nothing.
    """
    try:
        name = (folder / CURRENT).read_text("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        if generations(folder):
            raise CollectionDamaged("CURRENT is gone", where=folder) from None
        what = "this folder is no collection" if folder.is_dir() else "no such collection"
        raise CollectionNotFound(what, where=folder, hint="see fouille list, or make it with fouille index") from None
    except (OSError, UnicodeDecodeError) as error:
        hint = f"check its permissions, or {REBUILD}"
        raise CollectionDamaged(f"CURRENT cannot be read: {error}", where=folder, hint=hint) from error
    if not _GENERATION.fullmatch(name) or not (folder / name).is_dir():
        raise CollectionDamaged(f"CURRENT names {name[:40]!r}, which is not there", where=folder)
    return folder / name


def generations(folder: Path) -> list[Path]:
    """The generations in a collection's folder, the oldest first; none where there is no such folder."""
    found = [path for path in folder.iterdir() if _GENERATION.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name[1:]))


def fresh_memory(
    shelf: Shelf, first_stage: str | None, encoder: str | None, reranker: str | None, splitter: str | None
) -> dict[str, Any]:
    """What a new collection remembers. The encoder asked for is fetched; the default one is used where it is at hand.

    Raises:
        InvalidOption: an unknown first stage or splitter.
        ModelUnsupported: the encoder makes no vectors, or the reranker scores no pairs.
        ModelNotFound: an encoder or reranker asked for by name cannot be had.
    """
    from engine.documents import Splitter
    from engine.models import roles

    if first_stage is not None:
        parse("first_stage", first_stage, where="first_stage")
    name = model_name(encoder or shelf.settings.encoder_or_default)
    stage = first_stage or ("hybrid" if encoder is not None or shelf.at_hand(name) else "bm25")
    if reranker is not None:
        roles.check_reranker(registry.fetch(reranker))
    if encoder is not None:
        roles.check_encoder(registry.fetch(name))
    return {
        "uuid": uuid.uuid4().hex,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_by": _version(),
        "first_stage": stage,
        "encoder": name,
        "encoder_hash": None if stage == "bm25" else registry.model_hash(registry.fetch(name)),
        "reranker": model_name(reranker or shelf.settings.reranker_or_default),
        "splitter": str(Splitter.parse(splitter or shelf.settings.splitter or SPLITTER)),
        "analysis": DEFAULT_ANALYSIS.name,
    }


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fouille")
    except PackageNotFoundError:  # pragma: no cover - run from a tree that was never installed
        return "unknown"


def make(folder: Path, memory: Mapping[str, Any]) -> Path:
    """A new, empty generation beside the current one, which still is what readers see."""
    generation = folder / f"g{max((int(path.name[1:]) for path in generations(folder)), default=0) + 1}"
    with refused(generation):
        generation.mkdir()
    known = {name: value for name, value in memory.items() if value is not None}
    Catalog.create(generation, known).close()
    return generation


def point_to(generation: Path) -> None:
    """Make a generation the collection: one atomic replacement."""
    replace_file(generation.parent / CURRENT, [generation.name.encode("ascii")])


def set_aside(folder: Path) -> None:
    """Keep the generations that the current one could not be made of whole, as `damaged-…`; under the lock."""
    kept = current(folder)
    for path in generations(folder):
        if path != kept:
            with refused(path):
                path.rename(path.with_name(f"{_DAMAGED}{path.name}"))


def sweep(folder: Path, *, damaged: bool = False) -> None:
    """Remove the generations that an interrupted or a finished rebuild left behind. The caller holds the lock.

    Args:
        folder: the collection's.
        damaged: remove what was set aside too.
    """
    kept = current(folder)
    aside = folder.glob(f"{_DAMAGED}*") if damaged else ()
    for path in (*generations(folder), *aside):
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)

"""One collection on disk: created, opened, written to, searched, verified.

folder/
CURRENT         which generation is the collection; a rebuild replaces it atomically
write.lock      held by the one writer
g1/             a generation: catalog.sqlite, bm25/, dense/, tokens/
"""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from engine import generation, inspection
from engine.catalog import Catalog
from engine.errors import REBUILD, CollectionDamaged, CollectionOutdated, FouilleError, InvalidOption
from engine.locking import locked
from engine.models.shelf import Shelf
from engine.reader import Reader, token_cache
from engine.records import AddReport, Document, Progress, SearchOptions, SearchResult
from engine.search import FIRST_WINDOW, WINDOW, answer, begin
from engine.settings import Settings, expanded, model_name, parse
from engine.timing import Pace
from indexes.durable import refused

if TYPE_CHECKING:
    from engine.documents import Source
    from engine.writer import Writer

__all__ = ["Collection", "list_collections"]

T = TypeVar("T")

# Tuned values: what holds whichever models there are, and what only holds for the models it was tuned with.
_OF_BM25 = ("k1", "b")
_OF_RERANKER = ("interpolate", "candidates")


class Collection:
    """A folder of passages that can be searched; a context manager.

    Reading and searching never write to the folder. Writing takes the folder's lock, one writer at a time; what other
    processes commit is seen by the next search. Not for several threads at once.

    Attributes:
        path: the folder.
        shelf: the models in memory, which collections may share.
    """

    def __init__(self, path: Path, shelf: Shelf) -> None:
        self.path, self.shelf = path, shelf
        self._generation, self._reader = self._newest()

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        first_stage: str | None = None,
        encoder: str | None = None,
        reranker: str | None = None,
        splitter: str | None = None,
        settings: Settings | None = None,
        shelf: Shelf | None = None,
    ) -> "Collection":
        """A new, empty collection.

        Args:
            path: its folder, which must not exist yet or be empty.
            first_stage: bm25, dense or hybrid; None for hybrid where the encoder is at hand, else bm25.
            encoder: bi-encoder, by name or folder.
            reranker: cross-encoder, by name or folder.
            splitter: `words:SIZE:OVERLAP` or `none`.
            settings: defaults, device and precision; None for fouille's own.
            shelf: models already in memory.

        Raises:
            InvalidOption: an option makes no sense, or the folder is taken.
            ModelNotFound: a model asked for by name cannot be had.
            StorageError: the folder cannot be written.
        """
        path, shelf = expanded(path).absolute(), shelf or Shelf(settings or Settings())
        memory = generation.fresh_memory(shelf, first_stage, encoder, reranker, splitter)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise _taken(path)
        with refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{memory['uuid']}")
            temporary.mkdir()
        try:
            generation.point_to(generation.make(temporary, memory))
            with refused(path):
                try:
                    temporary.rename(path)
                except OSError as error:
                    if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:  # meanwhile
                        raise _taken(path) from error
                    raise
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(path, shelf)

    @classmethod
    def open(cls, path: Path | str, *, settings: Settings | None = None, shelf: Shelf | None = None) -> "Collection":
        """An existing collection.

        Raises:
            CollectionNotFound: nothing there, or no collection.
            CollectionDamaged, CollectionOutdated: it cannot be read by this fouille.
        """
        return cls(expanded(path).absolute(), shelf or Shelf(settings or Settings()))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def memory(self) -> Mapping[str, Any]:
        """What the collection remembers: models, splitter, analysis, tuned values."""
        return self._now().memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every file; safe to call twice."""
        self._reader.close()

    # Writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, progress: Progress | None = None) -> "Iterator[Writer]":
        # What only writing needs stays out of a search's way.
        from engine.writer import Writer

        self._reader.catalog.check_open()
        with locked(self.path):
            generation.sweep(self.path)
            with Writer(generation.current(self.path), self.shelf, progress) as writer:
                yield writer
        self._refresh()

    def add(
        self, documents: Iterable[Document], *, strict: bool = False, progress: Progress | None = None
    ) -> AddReport:
        """Add documents, or replace those whose content changed; unchanged ones are skipped.

        Args:
            documents: read once, in order; never all in memory, unless `strict`.
            strict: stop at the first document that would be rejected, before anything is written.
            progress: called with (part, done, total).

        Raises:
            CollectionBusy: another process writes to the collection.
            DocumentError: with `strict`.
            StorageError: the disk is full or the folder read-only; what was committed stays.
        """
        with self._writing(progress) as writer:
            writer.add(documents, strict=strict)
        return writer.report

    def update(
        self,
        sources: "Sequence[Source]",
        *,
        prune: bool = False,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> AddReport:
        """Bring the collection up to its sources; with `prune`, drop what they brought and no longer hold.

        Raises:
            SourceNotFound: a source cannot be read or is empty.
            CollectionBusy, DocumentError, StorageError: as `add`.
        """
        with self._writing(progress) as writer:
            writer.update(sources, prune=prune, strict=strict)
        return writer.report

    def delete(self, keys: Iterable[str]) -> int:
        """Remove documents until their source is indexed again; returns how many there were.

        Raises:
            InvalidOption: a single text in place of keys.
        """
        if isinstance(keys, str):
            raise InvalidOption(f"{keys!r} is one key, not several", where="keys", hint="put it in a list")
        with self._writing() as writer:
            writer.remove(keys)
        return writer.report.removed

    def remember(self, **values: Any) -> None:
        """Store values for later searches: k1, b, fusion_weight, interpolate, candidates, long_passages, reranker.

        None forgets one; the reranker is fouille's default then. A new one forgets what was tuned for the one before.

        Raises:
            InvalidOption: a name that only `rebuild` may change, or that nothing reads.
        """
        known = {*_OF_BM25, "fusion_weight", *_OF_RERANKER, "long_passages", "reranker"}
        if unknown := sorted(set(values) - known):
            raise InvalidOption("cannot be changed so", where=unknown[0], hint=f"known: {', '.join(sorted(known))}")
        values = {name: None if given is None else parse(name, given, where=name) for name, given in values.items()}
        if "reranker" in values:
            values["reranker"] = model_name(values["reranker"] or self.shelf.settings.reranker_or_default)
        with self._catalog() as catalog:
            if values.get("reranker") not in (None, catalog.memory()["reranker"]):
                values = {**dict.fromkeys(_OF_RERANKER), **values}
            catalog.remember(values)
        self._refresh()

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        """The catalog, to be written to while no other writer is."""
        with locked(self.path), closing(Catalog.open(generation.current(self.path), write=True)) as catalog:
            yield catalog

    def widen(self, first_stage: str, encoder: str | None) -> None:
        """Keep another index beside the one there is; the next `update` fills it.

        Raises:
            CollectionOutdated: it would drop an index, or change the encoder, which only a rebuild does.
        """
        memory = self.memory
        if first_stage != memory["first_stage"] and first_stage != "hybrid":
            raise CollectionOutdated(
                f"the collection keeps {memory['first_stage']}, not {first_stage} alone", where=self.path, hint=REBUILD
            )
        fresh = generation.fresh_memory(self.shelf, "hybrid", encoder or memory["encoder"], None, None)
        if memory["first_stage"] != "bm25" and fresh["encoder_hash"] != memory["encoder_hash"]:
            raise CollectionOutdated(
                f"its vectors were made with another encoder than {fresh['encoder']}", where=self.path, hint=REBUILD
            )
        with self._catalog() as catalog:
            with catalog.change() as change:
                change.note()  # first: what is noted and not remembered asks the next writer for nothing
            catalog.remember({name: fresh[name] for name in ("first_stage", "encoder", "encoder_hash")})
        self._refresh()

    @classmethod
    def rebuild(
        cls,
        path: Path | str,
        sources: "Sequence[Source]" = (),
        *,
        first_stage: str | None = None,
        encoder: str | None = None,
        reranker: str | None = None,
        splitter: str | None = None,
        settings: Settings | None = None,
        shelf: Shelf | None = None,
        prune: bool = False,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> AddReport:
        """Build the collection anew beside itself, with other models or another splitter, then swap.

        Every document that the catalog holds is carried over, then the sources are read. Of a damaged catalog that is
        what can still be read, and what there was stays beside it, as `damaged-…`, until another rebuild finds all
        whole. Options left None stay what they were.

        Raises:
            CollectionDamaged: nothing can be read, and there are no sources.
            InvalidOption, ModelNotFound, SourceNotFound, CollectionBusy, DocumentError, StorageError: as `create` and
                `update`.
        """
        from engine.writer import Writer

        path, shelf = expanded(path).absolute(), shelf or Shelf(settings or Settings())
        with suppress(CollectionDamaged):
            generation.current(path)  # where there is nothing, the lock would make a folder
        with locked(path):
            old, was = _readable(path)
            if old is None and not sources:
                raise CollectionDamaged("its catalog cannot be read", where=path, hint="name the sources to make it of")
            with closing(old) if old else nullcontext():
                stage = first_stage or was.get("first_stage")
                if encoder is None and "bm25" not in (stage, was.get("first_stage")):
                    encoder = was.get("encoder")
                memory = generation.fresh_memory(shelf, stage, encoder, reranker, splitter or was.get("splitter"))
                if reranker is None and was:
                    memory["reranker"] = was["reranker"]
                memory |= _tuned(was, memory)
                new = generation.make(path, memory)
                try:
                    with Writer(new, shelf, progress) as writer:
                        is_whole = old is not None and writer.carry_over(old) and _is_sound(old)
                        writer.update(sources, prune=prune, strict=strict)
                        if not is_whole:
                            left = "what there was stays in its folder, as damaged-…, until the next rebuild"
                            writer.report.notices.append(f"the catalog was damaged, and not all could be read: {left}")
                except BaseException:
                    shutil.rmtree(new, ignore_errors=True)
                    raise
            generation.point_to(new)
            if is_whole:
                generation.sweep(path, damaged=True)
            else:
                generation.set_aside(path)
            if was:
                shutil.rmtree(token_cache(was), ignore_errors=True)  # nobody asks for that generation's any more
        return writer.report

    # Reading ----------------------------------------------------------------------------------------------------

    def _now(self) -> Reader:
        """The reader of the generation that is the collection now."""
        if generation.current(self.path) != self._generation:
            newest = self._newest()
            self._reader.close()
            self._generation, self._reader = newest
        return self._reader

    def _newest(self) -> tuple[Path, Reader]:
        """The generation that is the collection now, opened; the next one where a rebuild took that away meanwhile."""
        while True:
            now = generation.current(self.path)
            try:
                return now, Reader(now, self.shelf)
            except CollectionDamaged:
                if generation.current(self.path) == now:
                    raise

    def _refresh(self) -> None:
        """See what was committed since, in this generation or in the one that took its place."""
        self._now().refresh()

    def prepare(self, options: SearchOptions | None = None) -> None:
        """Begin to load the models that a search with these options would use, and return at once.

        What cannot be loaded is told by the search.
        """
        begin(self._now(), options or SearchOptions())

    def search(self, question: str, options: SearchOptions | None = None) -> SearchResult:
        """The passages that answer a question, best first.

        Raises:
            InvalidQuestion: nothing to search for.
            InvalidOption, ModelNotFound: an option cannot be met.
            CollectionDamaged: a file of the collection cannot be trusted.
        """
        return next(self.search_many([question], options))

    def search_many(self, questions: Iterable[str], options: SearchOptions | None = None) -> Iterator[SearchResult]:
        """Answers to many questions, in order; their pairs share full batches. Raises as `search`."""
        if isinstance(questions, str):
            raise InvalidOption("one question, not several", where="questions", hint="put it in a list, or use search")
        options, remaining, pace = options or SearchOptions(), iter(questions), Pace(FIRST_WINDOW, 1, WINDOW)
        while window := list(islice(remaining, pace.size)):
            pace.begin()
            results = self._answers(window, options)
            pace.done(len(window))
            yield from results

    def _answers(self, questions: list[str], options: SearchOptions) -> list[SearchResult]:
        return self._reading(lambda reader: answer(reader, questions, options))

    def _reading(self, read: Callable[[Reader], T]) -> T:
        """What `read` makes of the collection as it is now; again where a rebuild took its files away meanwhile."""
        while True:
            reader = self._now()
            try:
                return read(reader)
            except CollectionDamaged:
                if generation.current(self.path) == self._generation:
                    raise

    def keys(self, glob: str | None = None) -> list[str]:
        """Keys of documents, in order; `*` and `?` in a glob match any character, `/` included."""
        return self._reading(lambda reader: reader.catalog.keys(glob))

    def sources(self) -> dict[str, str]:
        """Where each source of documents lies, by its name in keys."""
        return self._reading(lambda reader: {one.name: one.location for one in reader.catalog.sources().values()})

    def keys_of(self, source: str) -> list[str]:
        """Keys of the documents that a source brought, in order; none where no source has this name."""

        def read(reader: Reader) -> list[str]:
            rows = [row for row, origin in reader.catalog.sources().items() if origin.name == source]
            return sorted(key for row in rows for _, key in reader.catalog.keys_of_source(row))

        return self._reading(read)

    def document(self, key: str) -> Document | None:
        """A document, whole; None when there is none of that key."""
        return self._reading(lambda reader: reader.catalog.document(key))

    def info(self) -> dict[str, Any]:
        """What it holds and remembers, as JSON values."""
        return self._reading(lambda reader: inspection.info(self.path, reader))

    def verify(self) -> dict[str, Any]:
        """Whether catalog and indexes agree: `state` is "sound", "pending" or "damaged", `problems` says why."""
        return self._reading(lambda reader: inspection.verify(self.path, reader))


def _readable(path: Path) -> tuple[Catalog | None, dict[str, Any]]:
    """The catalog of the collection at `path` and what it remembers; None and nothing where it cannot be read."""
    try:
        try:
            current = generation.current(path)
        except CollectionDamaged:
            # What CURRENT does not say: of several the oldest is whole, a rebuild that was interrupted is newer.
            current = next(iter(generation.generations(path)), path)
        catalog = Catalog.open(current)
    except CollectionDamaged:
        return None, {}
    try:
        return catalog, catalog.memory()
    except CollectionDamaged:
        catalog.close()
        return None, {}


def _is_sound(catalog: Catalog) -> bool:
    """Whether nothing can have been missed in reading it."""
    try:
        return not catalog.check()
    except CollectionDamaged:
        return False


def _tuned(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was tuned and still holds: all of it with the same models, BM25's part with others."""
    names = {*_OF_BM25, "long_passages"}
    if was.get("encoder") == now["encoder"]:
        names |= {"fusion_weight", *(_OF_RERANKER if was.get("reranker") == now["reranker"] else ())}
    return {name: was[name] for name in names & set(was)}


def list_collections(folder: Path) -> list[dict[str, Any]]:
    """Name, path, counts and first stage of every collection in a folder; a damaged one says so in `error`."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not (path / generation.CURRENT).exists():
            continue
        entry: dict[str, Any] = {"name": path.name, "path": str(path)}
        try:
            with closing(Catalog.open(generation.current(path))) as catalog:
                entry |= catalog.counts() | {"first_stage": catalog.memory()["first_stage"], "error": None}
        except (FouilleError, OSError) as error:
            entry |= {"documents": None, "passages": None, "first_stage": None, "error": str(error)}
        found.append(entry)
    return found


def _taken(path: Path) -> InvalidOption:
    return InvalidOption("the folder is taken", where=path, hint="choose another, or open the collection")

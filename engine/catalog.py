"""Documents, passages and the change log of one collection, in SQLite: the one source of truth.

Every write transaction raises a sequence number. Passage ids rise with time and are never reused, so "added at or
before sequence S" is the same as "id at most the last id that S gave out", which the table `changes` keeps. A passage
is visible at S when it was added by then and not yet removed. Removed rows stay until every index has passed them.
"""

import json
import sqlite3
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.catalog_change import Change
from engine.errors import CollectionDamaged, CollectionError, CollectionOutdated, InvalidOption, StorageError
from engine.records import Document, Passage

__all__ = ["Catalog", "Entry", "Origin"]

FILE = "catalog.sqlite"
APPLICATION = 0x666F7569  # "foui", so that a foreign database is told from ours
FORMAT = 1

_SCHEMA = """
CREATE TABLE memory (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (sequence INTEGER PRIMARY KEY, last_passage INTEGER NOT NULL);
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, location TEXT NOT NULL UNIQUE, whole INTEGER NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, title TEXT NOT NULL, metadata TEXT NOT NULL,
    hash BLOB NOT NULL, source INTEGER REFERENCES sources, pages TEXT NOT NULL, has_lines INTEGER NOT NULL,
    text TEXT, removed INTEGER);
CREATE UNIQUE INDEX documents_live ON documents (key) WHERE removed IS NULL;
CREATE INDEX documents_removed ON documents (removed) WHERE removed IS NOT NULL;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents, start INTEGER NOT NULL,
    end INTEGER NOT NULL, page INTEGER, line INTEGER, text TEXT NOT NULL, removed INTEGER);
CREATE INDEX passages_document ON passages (document);
CREATE INDEX passages_removed ON passages (removed) WHERE removed IS NOT NULL;
INSERT INTO changes VALUES (0, 0);
"""

_PASSAGES = """
SELECT p.id, d.key, d.title, p.text, p.start, p.end, p.page, p.line, d.metadata, d.pages
FROM passages p JOIN documents d ON d.id = p.document
WHERE p.id IN (SELECT value FROM json_each(?))"""

_TEXTS = "SELECT p.id, d.title, p.text FROM passages p JOIN documents d ON d.id = p.document"

_BUSY = "PRAGMA busy_timeout = 10000"

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalog knows of a live document: its row, the hash of its content, the source that brought it."""

    id: int
    hash: bytes
    source: int | None


@dataclass(frozen=True, slots=True)
class Origin:
    """A source: its name in keys, where it lies, and whether its documents are passages already."""

    name: str
    location: str
    whole: bool


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise CollectionError("the collection is closed", where=path.parent, hint="open it again") from error
    except sqlite3.OperationalError as error:
        # Text that is no UTF-8 any more is Python's to find, and has no code of SQLite's.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise _damaged(path, error) from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise _damaged(path, error) from error
        if code == sqlite3.SQLITE_ERROR:  # such as a GLOB, or a filter, that is too complex
            raise InvalidOption(f"cannot be asked of the catalog: {error}", where=path.parent) from error
        raise StorageError(str(error), where=path, hint="check free space and permissions") from error
    except UnicodeEncodeError as error:
        raise InvalidOption("holds half of a surrogate pair, which is no text", where=ascii(error.object)) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise _damaged(path, error) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _damaged(path: Path, error: Exception) -> CollectionDamaged:
    return CollectionDamaged(str(error), where=path)


def _named(glob: str | None) -> tuple[str, list[object]]:
    """A condition on a document's key, and its values: `*` and `?` match any character, all else itself.

    A glob that matches a file of records matches each of them, whose keys are FILE#ID.
    """
    if glob is None:
        return "1", []
    # Keys of files are in NFC; whoever types a glob, or completes it, may not be.
    literal = glob.replace("[", "[[]")
    globs = dict.fromkeys([literal, unicodedata.normalize("NFC", literal)])
    values: list[object] = [end for glob in globs for end in (glob, f"{glob}#*")]
    return f"({' OR '.join(['key GLOB ?'] * len(values))})", values


def _ids(rows: Iterable[tuple[int]]) -> Ids:
    return np.fromiter((row[0] for row in rows), np.int64)


def _ids_and_texts(rows: Iterable[tuple[int, str, str]]) -> tuple[list[int], list[tuple[str, str]]]:
    ids, texts = [], []
    for id_, title, text in rows:
        ids.append(id_)
        texts.append((title, text))
    return ids, texts


class Catalog:
    """One SQLite file. A writer holds the collection's lock; readers need nothing."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        # The file as it was opened, where SQLite takes it for one that never changes.
        self._unwatched: tuple[int, int, int] | None = None

    @classmethod
    def create(cls, folder: Path, memory: Mapping[str, Any]) -> "Catalog":
        """A new catalog in a folder, which remembers `memory` (JSON values by name)."""
        path = folder / FILE
        with _reported(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.executescript(_SCHEMA)
        catalog = cls._prepared(path, connection)
        catalog.remember(memory)
        return catalog

    @classmethod
    def open(cls, folder: Path, *, write: bool = False) -> "Catalog":
        """The catalog of a folder.

        Raises:
            CollectionDamaged: the file is missing or is no catalog.
            CollectionOutdated: a newer fouille made it.
            StorageError: the system refuses to read it.
        """
        path = folder / FILE
        if not path.is_file():
            raise CollectionDamaged("the catalog is missing", where=path)
        mode = "rw" if write else "ro"
        try:
            return cls._checked(path, mode)
        except StorageError as error:
            # WAL needs a writable folder, if only for its shared memory.
            wal = path.with_name(path.name + "-wal")
            if write:
                raise
            if wal.exists() and wal.stat().st_size:
                hint = "a write was cut off: copy the collection to a writable place, or run fouille index as its owner"
                raise StorageError(error.what, where=path, hint=hint) from error
            stamp = _stamp(path)
            catalog = cls._checked(path, "ro&immutable=1")
            catalog._unwatched = stamp
            return catalog

    def _renew(self) -> None:
        """Open the file again where it has changed although SQLite was told that it would not: its owner may write."""
        if self._unwatched is None or self._unwatched == _stamp(self.path):
            return
        fresh = Catalog.open(self.path.parent)
        self._connection.close()
        self._connection, self._unwatched = fresh._connection, fresh._unwatched

    @classmethod
    def _checked(cls, path: Path, mode: str) -> "Catalog":
        with _reported(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
            )
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            raise _damaged(path, ValueError("not a catalog of fouille's"))
        if version > FORMAT:
            raise CollectionOutdated(
                f"made by a newer fouille (format {version}; this one reads {FORMAT})",
                where=path,
                hint="upgrade fouille",
            )
        return cls._prepared(path, connection)

    @classmethod
    def _prepared(cls, path: Path, connection: sqlite3.Connection) -> "Catalog":
        with _reported(path):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_BUSY)
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("SELECT sequence FROM changes LIMIT 1").fetchone()
        return cls(path, connection)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._connection.close()

    def check_open(self) -> None:
        """Raises CollectionError where it is closed."""
        self._all("SELECT 1")

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with _reported(self.path):
            return self._connection.execute(sql, values).fetchall()

    def _json(self, stored: str) -> Any:
        """What a column of JSON holds."""
        try:
            return json.loads(stored)
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, error) from error

    # What the collection remembers ------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Everything remembered: models, analysis, splitter, tuned values."""
        return {name: self._json(value) for name, value in self._all("SELECT name, value FROM memory")}

    def remember(self, values: Mapping[str, Any]) -> None:
        """Store JSON values by name; None forgets one."""
        with _reported(self.path), self._atomic():
            for name, value in values.items():
                if value is None:
                    self._connection.execute("DELETE FROM memory WHERE name = ?", (name,))
                else:
                    self._connection.execute("REPLACE INTO memory VALUES (?, ?)", (name, json.dumps(value)))

    def source(self, name: str, location: str, *, whole: bool) -> tuple[int, str]:
        """The id and the unique name of the source at `location`, made from `name` when it is new.

        `whole` says that its documents are passages already and stay as they are.
        """
        row, unique = self.named(name, location)
        if row is not None:
            return row, unique
        with _reported(self.path):
            cursor = self._connection.execute(
                "INSERT INTO sources (name, location, whole) VALUES (?, ?, ?)", (unique, location, whole)
            )
        return int(cursor.lastrowid or 0), unique

    def named(self, name: str, location: str, taken: Set[str] = frozenset()) -> tuple[int | None, str]:
        """The id of the source at `location`, None for a new one, and the unique name that it has or would get.

        Args:
            name: that it asks for.
            location: where it lies.
            taken: names that others will have got by then.
        """
        if known := self._all("SELECT id, name FROM sources WHERE location = ?", (location,)):
            return known[0][0], known[0][1]
        taken = {*taken, *(row[0] for row in self._all("SELECT name FROM sources"))}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        return None, unique

    def sources(self) -> dict[int, Origin]:
        """Every source that ever brought a document, by id."""
        rows = self._all("SELECT id, name, location, whole FROM sources ORDER BY id")
        return {id_: Origin(name, location, bool(whole)) for id_, name, location, whole in rows}

    def copy_sources(self, sources: Mapping[int, Origin]) -> None:
        """Know the sources of another catalog, under the same ids."""
        with _reported(self.path), self._atomic():
            self._connection.executemany(
                "INSERT INTO sources VALUES (?, ?, ?, ?)",
                [(id_, one.name, one.location, one.whole) for id_, one in sources.items()],
            )

    def source_name(self, source: int | None) -> str:
        """A source's name for a person; documents that came through the Python API have none."""
        return self.sources()[source].name if source is not None else "(Python API)"

    # Writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _atomic(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """One write transaction with the next sequence number: all of it becomes durable, or none."""
        with _reported(self.path), self._atomic():
            change = Change(self._connection, self.sequence + 1)
            yield change
            change.seal()

    def purge(self, sequence: int) -> None:
        """Forget what was removed at or before `sequence`; every index must have passed it.

        What is left stands in the one file then, unless somebody is reading: it can be copied and read anywhere.
        """
        with _reported(self.path):
            with self._atomic():
                self._connection.execute("DELETE FROM passages WHERE removed <= ?", (sequence,))
                self._connection.execute("DELETE FROM documents WHERE removed <= ?", (sequence,))
                self._connection.execute("DELETE FROM changes WHERE sequence < ?", (sequence,))
            self._connection.execute("PRAGMA busy_timeout = 100")  # who reads for long is not waited for
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute(_BUSY)

    # Reading ----------------------------------------------------------------------------------------------------

    @contextmanager
    def steady(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever others commit or purge meanwhile."""
        try:
            self._let_go()  # an interrupt may have come just before the last one was let go
            self.check_open()
            self._renew()
            self._all("BEGIN")
            self._all("SELECT 1 FROM changes LIMIT 1")  # SQLite's moment is that of the first read
            yield
        finally:
            self._let_go()

    def _let_go(self) -> None:
        with suppress(sqlite3.Error):  # closed meanwhile: there is nothing to let go
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def holds(self, sequence: int) -> bool:
        """Whether every passage visible at `sequence` has its row: it is neither ahead of the log nor purged."""
        return bool(self._all("SELECT ? BETWEEN min(sequence) AND max(sequence) FROM changes", (sequence,))[0][0])

    @property
    def sequence(self) -> int:
        """The number of the last write transaction."""
        last = self._all("SELECT max(sequence) FROM changes")[0][0]
        if not isinstance(last, int):
            raise _damaged(self.path, ValueError("its log of changes is empty"))
        return last

    @property
    def in_step(self) -> bool:
        """Whether every index had passed the last write when the catalog was purged."""
        return bool(self._all("SELECT count(*) = 1 FROM changes")[0][0])

    def last_passage(self, sequence: int) -> int:
        """The highest passage id given out at or before `sequence`."""
        found = self._all("SELECT max(last_passage) FROM changes WHERE sequence <= ?", (sequence,))[0][0]
        return int(found or 0)

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The live documents among these keys."""
        sql = """SELECT key, id, hash, source FROM documents
            WHERE removed IS NULL AND key IN (SELECT value FROM json_each(?))"""
        return {row[0]: Entry(*row[1:]) for row in self._all(sql, (json.dumps(keys),))}

    def keys(self, glob: str | None = None) -> list[str]:
        """Keys of live documents in order, those that a glob (`*` and `?` match any character) names."""
        condition, values = _named(glob)
        rows = self._all(f"SELECT key FROM documents WHERE removed IS NULL AND {condition} ORDER BY key", values)  # noqa: S608
        return [row[0] for row in rows]

    def keys_of_source(self, source: int) -> Iterator[tuple[int, str]]:
        """Row and key of every live document that a source brought."""
        return iter(self._all("SELECT id, key FROM documents WHERE source = ? AND removed IS NULL", (source,)))

    def document(self, key: str) -> Document | None:
        """The live document of that key, whole."""
        return next(self._documents("d.key = ? AND d.removed IS NULL", (key,)), None)

    def documents(self, source: int | None, unreadable: list[CollectionDamaged]) -> Iterator[Document]:
        """Every live document of a source (None: of the Python API), in the order they came.

        Of one that cannot be read, `unreadable` gets the error.
        """
        for (row,) in self._all(
            "SELECT id FROM documents WHERE source IS ? AND removed IS NULL ORDER BY id", (source,)
        ):
            try:
                found = list(self._documents("d.id = ?", (row,)))
            except CollectionDamaged as error:
                unreadable.append(error)
            else:
                yield from found

    def contents(self) -> Iterator[tuple[Document, bytes]]:
        """Every live document, and the hash of what it held when it was written."""
        for (row,) in self._all("SELECT id FROM documents WHERE removed IS NULL ORDER BY id"):
            yield from self._with_hashes("d.id = ?", (row,))

    def _documents(self, condition: str, values: Sequence[object]) -> Iterator[Document]:
        return (document for document, _ in self._with_hashes(condition, values))

    def _with_hashes(self, condition: str, values: Sequence[object]) -> Iterator[tuple[Document, bytes]]:
        sql = f"""SELECT d.key, coalesce(d.text, p.text), d.title, d.metadata, d.pages, d.has_lines, d.hash
            FROM documents d LEFT JOIN passages p ON d.text IS NULL AND p.document = d.id
            WHERE {condition}"""  # noqa: S608 - `condition` is one of our own
        for key, text, title, metadata, pages, has_lines, content_hash in self._all(sql, values):
            about = self._json(metadata), tuple(self._json(pages))
            yield Document(key, text or "", title, *about, bool(has_lines)), content_hash

    def passages(self, ids: Iterable[int]) -> dict[int, Passage]:
        """Passages by id, removed ones included while their rows last."""
        wanted = json.dumps([int(id_) for id_ in ids])
        found = {}
        for row in self._all(_PASSAGES, (wanted,)):
            *_, end, page, _, metadata, pages = row
            last_page = None if page is None else bisect_right(self._json(pages), end - 1)
            passage = Passage(*(*row[:-2], self._json(metadata), last_page))
            if not all(isinstance(part, str) for part in (passage.key, passage.title, passage.text)):
                raise _damaged(self.path, ValueError(f"passage {passage.id} lacks its text"))
            found[passage.id] = passage
        return found

    def owners(self, ids: Ids) -> dict[int, int]:
        """The document row of each passage."""
        sql = "SELECT id, document FROM passages WHERE id IN (SELECT value FROM json_each(?))"
        return dict(self._all(sql, (json.dumps(ids.tolist()),)))

    def select(self, keys: str | None, where: Mapping[str, str | Sequence[str]], sequence: int) -> Ids:
        """Ids, ascending, of the passages visible at `sequence` whose document has a key and metadata like these.

        Of several values under one name the metadata must have all, as a list may.
        """
        visible = "id <= ? AND (removed IS NULL OR removed > ?)"
        values: list[object] = [self.last_passage(sequence), sequence]
        if keys is None and not where:
            return _ids(self._all(f"SELECT id FROM passages WHERE {visible} ORDER BY id", values))  # noqa: S608
        condition, named = _named(keys)
        values += named
        wanted = ((name, [asked] if isinstance(asked, str) else asked) for name, asked in where.items())
        for name, value in ((name, value) for name, values_of in wanted for value in values_of):
            condition += """ AND EXISTS (SELECT 1 FROM json_tree(metadata) t WHERE (t.path = '$' AND t.key = ? OR
                t.path IN (SELECT fullkey FROM json_each(metadata) WHERE key = ? AND type = 'array'))
                AND CASE t.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(t.atom AS TEXT) END
                IN (?, ?))"""
            values += [name, name, value, unicodedata.normalize("NFC", value)]
        # Documents first: a long one has thousands of passages.
        sql = f"""SELECT id FROM passages WHERE {visible}
            AND document IN (SELECT id FROM documents WHERE {condition}) ORDER BY id"""  # noqa: S608
        return _ids(self._all(sql, values))

    def visible(self, sequence: int) -> Ids:
        """Ids, ascending, of all passages visible at `sequence`."""
        return self.select(None, {}, sequence)

    def added(self, after: int, upto: int, window: int = 2048) -> Iterator[tuple[list[int], list[tuple[str, str]]]]:
        """Live passages with `after` < id <= `upto`, in order, as windows of ids and (title, text)."""
        sql = f"{_TEXTS} WHERE p.id > ? AND p.id <= ? AND p.removed IS NULL ORDER BY p.id LIMIT ?"
        while rows := self._all(sql, (after, upto, window)):
            yield _ids_and_texts(rows)
            after = rows[-1][0]

    def texts_of(self, ids: Ids, window: int = 2048) -> Iterator[tuple[list[int], list[tuple[str, str]]]]:
        """These passages, removed ones included while their rows last; otherwise as `added`."""
        for start in range(0, len(ids), window):
            wanted = json.dumps(ids[start : start + window].tolist())
            sql = f"{_TEXTS} WHERE p.id IN (SELECT value FROM json_each(?)) ORDER BY p.id"  # noqa: S608 - our own words
            yield _ids_and_texts(self._all(sql, (wanted,)))

    def live_between(self, after: int, upto: int) -> int:
        """How many live passages have `after` < id <= `upto`."""
        sql = "SELECT count(*) FROM passages WHERE id > ? AND id <= ? AND removed IS NULL"
        return int(self._all(sql, (after, upto))[0][0])

    def removed(self, since: int, upto: int, last: int) -> Ids:
        """Ids up to `last`, itself included, that were removed after sequence `since` and at or before `upto`."""
        sql = "SELECT id FROM passages WHERE removed > ? AND removed <= ? AND id <= ? ORDER BY id"
        return _ids(self._all(sql, (since, upto, last)))

    def counts(self) -> dict[str, int]:
        """Live documents and passages."""
        # All but the removed: SQLite counts both in an index, and need not read every text.
        return {
            table: self._all(f"SELECT (SELECT count(*) FROM {table}) - count(*) FROM {table} WHERE removed > 0")[0][0]  # noqa: S608
            for table in ("documents", "passages")
        }

    def check(self) -> list[str]:
        """SQLite's own integrity check, and that passages and documents agree; problems in words, none when sound."""
        problems = [row[0] for row in self._all("PRAGMA integrity_check(5)") if row[0] != "ok"]
        problems += [f"a dangling row in {row[0]}" for row in self._all("PRAGMA foreign_key_check")[:1]]
        lost = self._all(
            "SELECT count(*) FROM documents d WHERE removed IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM passages p WHERE p.document = d.id AND p.removed IS NULL)"
        )[0][0]
        altered = self._all(
            "SELECT count(*) FROM passages p JOIN documents d ON d.id = p.document WHERE p.removed IS NULL "
            "AND d.text IS NOT NULL AND p.text <> substr(d.text, p.start + 1, p.end - p.start)"
        )[0][0]
        if lost:
            problems.append(f"documents without a passage: {lost:,}")
        if altered:
            problems.append(f"passages that are not their document's text: {altered:,}")
        return problems

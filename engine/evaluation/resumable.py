"""A run that is written question by question, and goes on after an interruption where it stopped.

Beside `out.trec` stands a folder `out.trec.partial` while the run is written. It holds `run`, the lines so far, and
`journal`, whose first line says with which options they were made and each other line names a question and where its
lines end in `run`. Lines reach the disk before the journal names them, so whatever the journal does not vouch for, a
torn last line among it, is cut off when the run goes on. A run for `.gz` is compressed once it is whole: a compressed
file cannot be cut.
"""

import gzip
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from filelock import FileLock, Timeout
from numpy.typing import ArrayLike

from engine.errors import EvaluationError, StorageError
from engine.evaluation.lines import written
from engine.evaluation.provenance import (
    Provenance,
    brief,
    differences,
    made_otherwise,
    provenance_path,
    read_provenance,
    write_provenance,
)
from engine.evaluation.runs import check_ids, checked, format_ranking

__all__ = ["ResumableRun"]

_SECONDS_BETWEEN_SYNCS = 2.0


class ResumableRun:
    """Context manager that appends rankings and puts the whole run in place at the end.

    Leaving the block without `finish` (Ctrl-C, an error, kill -9) keeps what was answered for the next time.

    Args:
        output: the run to write.
        options: all that decides its rankings; a partial run is taken up only when they and the tag are the same.
        tag: the last column.
        restart: drop a partial run, whatever its options.

    Attributes:
        done: questions answered so far, in this or an earlier session.
        resumed: how many were found answered on entering.
        replaced: a line about the finished run whose place this one took, where it was made otherwise; else empty.

    Raises:
        EvaluationError: a partial run made with other options is in the way, or another process is writing this run.
        StorageError: the system refused to write, or `output` is no file.
    """

    def __init__(
        self, output: str | Path, options: Mapping[str, Any], *, tag: str = "fouille", restart: bool = False
    ) -> None:
        check_ids((tag,), lambda reason: EvaluationError(f"{reason}, which the tag of a run cannot"))
        self.output = written(Path(output))
        self.folder = self.output.with_name(f"{self.output.name}.partial")
        self.done: set[str] = set()
        self.resumed = 0
        self.replaced: tuple[str, ...] = ()
        # Through JSON and back, so that tuples compare as the lists they are stored as.
        self._options: dict[str, Any] = json.loads(json.dumps({**options, "tag": tag}))
        self._tag, self._restart = tag, restart
        self._lines: IO[bytes] | None = None
        self._journal: IO[bytes] | None = None
        self._unsynced: list[tuple[str, int]] = []
        self._synced_at = time.monotonic()
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise EvaluationError("another process is writing this run", where=self.output) from None
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror or error}", where=self.folder) from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        lines, journal = self.folder / "run", self.folder / "journal"
        kept = b"" if self._restart or not journal.exists() else journal.read_bytes()
        entries = kept[: kept.rfind(b"\n") + 1].splitlines()
        end, vouched = 0, 0
        if len(entries) > 1:  # with no question answered yet there is nothing to go on from, and nothing in the way
            self._refuse_other_options(self._read(entries[0], dict))
            size = lines.stat().st_size if lines.exists() else 0
            vouched = len(entries[0]) + 1
            for entry in entries[1:]:
                question, reached = self._read(entry, [str, int])
                if reached > size:
                    break
                self.done.add(question)
                end, vouched = reached, vouched + len(entry) + 1
        self.resumed = len(self.done)
        # The journal is cut first: it must never vouch for lines that are no longer there.
        self._journal = _cut(journal, vouched)
        self._lines = _cut(lines, end)
        if not vouched:
            self._journal.write(_json_line(self._options))
            self._journal.flush()

    def _read(self, entry: bytes, expected: object) -> Any:
        """A line of the journal: the options as a `dict`, or a question and where its lines end, `[str, int]`."""
        with suppress(ValueError):
            found: Any = json.loads(entry)
            shape: object = [type(part) for part in found] if isinstance(found, list) else type(found)
            if shape == expected:
                return found
        raise EvaluationError(
            "what was kept of an interrupted run is damaged", where=self.folder, hint="start over with --restart"
        )

    def _refuse_other_options(self, before: Mapping[str, Any]) -> None:
        if changed := differences(before, self._options):
            shown = ", ".join(f"{name} {brief(one)} then, {brief(other)} now" for name, one, other in changed)
            raise EvaluationError(
                f"an interrupted run made with other options is in the way: {shown}",
                where=self.folder,
                hint="--restart drops it; or write to another file",
            )

    def add(self, question: str, documents: Sequence[str], scores: ArrayLike) -> None:
        """Appends the answer to one question, perhaps an empty one.

        Raises:
            EvaluationError: an odd id, a NaN score, or a document ranked twice.
            StorageError: the system refused to write.
        """
        if self._lines is None:
            raise ValueError("add() outside the block")
        ranked = checked(question, documents, scores)
        try:
            self._lines.write(format_ranking(question, ranked, self._tag).encode())
            self._unsynced.append((question, self._lines.tell()))
            if time.monotonic() - self._synced_at > _SECONDS_BETWEEN_SYNCS:
                self._sync()
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror or error}", where=self.folder) from error
        self.done.add(question)

    def _sync(self) -> None:
        if self._lines is None or self._journal is None:
            return
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._journal.writelines(_json_line(entry) for entry in self._unsynced)
        self._journal.flush()
        self._unsynced.clear()
        self._synced_at = time.monotonic()

    def finish(self, provenance: Provenance) -> None:
        """Puts the run and its provenance in place, and removes the partial one.

        Raises:
            StorageError: the system refused to write.
        """
        try:
            self._sync()
            self._close()
            whole = self._compressed() if self.output.suffix == ".gz" else self.folder / "run"
            self.replaced = self._replaced_by(provenance)
            provenance_path(self.output).unlink(missing_ok=True)  # never beside a run that it does not describe
            whole.replace(self.output)
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror or error}", where=self.output) from error
        write_provenance(self.output, provenance)
        for name in ("journal", "run"):  # the journal first: it must never vouch for lines that are no longer there
            (self.folder / name).unlink(missing_ok=True)
        self._lock.release()
        (self.folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # another process may be starting over in it
            self.folder.rmdir()

    def _replaced_by(self, provenance: Provenance) -> tuple[str, ...]:
        """What to say of the run that stands where this one will; nothing where its making is not known."""
        before = None
        with suppress(EvaluationError):
            before = read_provenance(self.output)
        if before is None or not self.output.exists():
            return ()
        # Through JSON and back, as what stood there went.
        otherwise = made_otherwise(before, json.loads(json.dumps(provenance.as_json())))
        return (f"{self.output} replaced a run made with {otherwise}",) if otherwise else ()

    def _compressed(self) -> Path:
        """The whole run gzipped, beside itself."""
        path = self.folder / "run.gz"
        with path.open("wb") as raw:
            # Neither name nor time inside: the same run gives the same bytes.
            with (self.folder / "run").open("rb") as lines, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                shutil.copyfileobj(lines, packed, 1 << 20)
            raw.flush()
            os.fsync(raw.fileno())
        return path

    def _close(self) -> None:
        for stream in (self._lines, self._journal):
            if stream is not None:
                stream.close()
        self._lines = self._journal = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._sync()
            self._close()
        except OSError as failure:
            if kind is None:
                raise StorageError(f"cannot be written: {failure.strerror or failure}", where=self.folder) from failure
        finally:
            self._lock.release()


def _cut(path: Path, size: int) -> IO[bytes]:
    """Opens a file for appending after its first `size` bytes; what follows them is lost."""
    stream = path.open("r+b" if path.exists() else "w+b")
    stream.truncate(size)
    stream.seek(size)
    return stream


def _json_line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"

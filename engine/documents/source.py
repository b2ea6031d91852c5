"""What a person asks to index, found and named."""

import os
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from engine.documents.datasets import IRDS, count_records, open_dataset
from engine.documents.discovery import CORPUS_NAMES, Found, Pattern, display, system_reason, walk
from engine.documents.extraction import Columns
from engine.documents.reading import ReadDocument, count_documents, read_dataset, read_file, read_records, read_stdin
from engine.errors import SourceNotFound
from engine.records import Document, Rejection
from engine.settings import expanded

__all__ = ["Columns", "Source", "open_source"]

_Kind = Literal["folder", "file", "glob", "stdin", "beir", "dataset"]


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, a file, a glob, a BEIR folder, an ir_datasets collection or standard input; `open_source` makes one.

    Attributes:
        name: first part of the keys of its files; `rename` changes it where two sources would share it.
        location: its resolved path (a glob: the pattern below its resolved base), `irds:ID`, `-` for standard input.
        columns: which columns or fields of its records to read.
        may_be_empty: whether it brought documents before, so that finding none says that they are gone.
    """

    name: str
    location: str
    kind: _Kind
    base: Path = field(repr=False)
    pattern: str | None = field(default=None, repr=False)
    columns: Columns = field(default=Columns(), repr=False)
    may_be_empty: bool = field(default=False, repr=False)

    @property
    def keeps_passages(self) -> bool:
        """Whether its documents are passages already, so that no splitter should cut them."""
        return self.kind in ("beir", "dataset")

    def rename(self, name: str) -> "Source":
        """The same source under another name."""
        return replace(self, name=name)

    def read(self, skipped: Counter[str] | None = None) -> Iterator[Document | Rejection]:
        """Its documents in a stable order, and a rejection for each file or record that cannot be used.

        Holds one file or record at a time, and the keys so far, to reject the second use of one. The `where` of a
        rejection is the path below the source, so that `name/where` is the key of a file that could not be read.

        Args:
            skipped: counts the files of kinds that are not read here, by extension.

        Raises:
            SourceNotFound: there is nothing to read, or no longer.
        """
        keys: set[str] = set()
        nothing = True
        skipped = Counter() if skipped is None else skipped
        for item in self._items(skipped):
            nothing = False
            if isinstance(item, Rejection):
                yield item
            elif item.document.key in keys:
                yield Rejection(item.where, f'duplicate key "{item.document.key}", the first one is kept', item.line)
            else:
                keys.add(item.document.key)
                yield item.document
        if nothing and not self.may_be_empty:
            raise _nothing_to_read(self, skipped)

    def _items(self, skipped: Counter[str]) -> Iterator[ReadDocument | Rejection]:
        if self.kind == "stdin":
            yield from read_stdin(self.columns)
        elif self.kind == "dataset":
            yield from read_dataset(self.location)
        elif self.kind == "beir":
            corpus = _corpus(self.base)
            if corpus is None:
                raise SourceNotFound("no corpus.jsonl in this BEIR folder any more", where=self.location)
            yield from read_records(Found(corpus, corpus.name), self.columns, missing_id=None)
        elif self.kind == "file":
            yield from read_file(Found(self.base, display(self.base.name)), self.name, self.columns, is_alone=True)
        else:
            for found in self.files(skipped):
                if isinstance(found, Rejection):
                    yield found
                else:
                    yield from read_file(found, f"{self.name}/{found.name}", self.columns, is_alone=False)

    def expected(self) -> int | None:
        """About how many documents `read` will give, for a progress bar; None where only reading them tells."""
        if self.kind == "stdin":
            return None
        if self.kind == "dataset":
            return count_records(self.location)
        if self.kind in ("folder", "glob"):
            found: Iterable[Found | Rejection] = self.files()
        else:
            corpus = _corpus(self.base) if self.kind == "beir" else self.base
            found = [] if corpus is None else [Found(corpus, corpus.name)]
        return sum(count_documents(one) for one in found if isinstance(one, Found))

    def files(self, skipped: Counter[str] | None = None) -> Iterator[Found | Rejection]:
        """The files of a folder or glob, without reading them; raises as `read`."""
        _check_readable(self.base, self.location)
        return walk(self.base, Pattern(self.pattern) if self.pattern else None, skipped)


def open_source(spec: str, *, columns: Columns | None = None, emptied: Container[str] = ()) -> Source:
    """Find what `spec` names: a folder, a file, a glob, a BEIR folder, `irds:ID`, or `-` for JSONL on standard input.

    Args:
        spec: as a person types it.
        columns: which columns or fields of its records to read.
        emptied: locations of folders and globs that brought documents before: empty, they are no mistake.

    Raises:
        DependencyMissing: `irds:ID` without ir_datasets.
        SourceNotFound: it does not exist, cannot be read, or holds no file that could be read.
    """
    columns = columns or Columns()
    if spec == "-":
        return Source("stdin", "-", "stdin", Path(), columns=columns)
    if spec.startswith(IRDS):
        return _dataset(spec)
    if not spec.strip() or "\0" in spec:
        raise SourceNotFound("a source without a name", hint="name a folder, a file, a glob, or - for JSONL on stdin")
    path = expanded(spec)
    if not os.path.lexists(path):
        # The system may know the name in the other of Unicode's two spellings of an accent.
        other = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
        path = next(filter(os.path.lexists, other), path)
    if not os.path.lexists(path):
        if not set(spec) & set("*?["):
            raise SourceNotFound("no such file or folder", where=display(spec), hint="check the path")
        return _glob(path, columns, emptied)
    base = Path(os.path.realpath(path))
    _check_readable(base, display(spec))
    name, location = display(base.name) or "root", display(base)
    if not base.is_dir():
        return Source(name, location, "file", base, columns=columns)
    if _corpus(base):
        return Source(name, location, "beir", base, columns=columns)
    return _with_files(Source(name, location, "folder", base, columns=columns), emptied)


def _dataset(spec: str) -> Source:
    with open_dataset(spec) as dataset:
        if not dataset.has_docs():
            raise SourceNotFound("this ir_datasets collection has no documents", where=spec)
    return Source(spec.removeprefix(IRDS), spec, "dataset", Path())


def _glob(path: Path, columns: Columns, emptied: Container[str]) -> Source:
    """A glob's base is the longest part of it without wildcards."""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if set(part) & set("*?["))
    base = Path(os.path.realpath(Path(*parts[:first])))
    pattern = "/".join(parts[first:])
    _check_readable(base, display(base))
    location = f"{display(base).rstrip('/')}/{display(pattern)}"
    return _with_files(Source(display(base.name) or "root", location, "glob", base, pattern, columns), emptied)


def _with_files(source: Source, emptied: Container[str]) -> Source:
    skipped: Counter[str] = Counter()
    if next(source.files(skipped), None) is None:
        if source.location in emptied:
            return replace(source, may_be_empty=True)
        raise _nothing_to_read(source, skipped)
    return source


def _nothing_to_read(source: Source, skipped: Counter[str]) -> SourceNotFound:
    if source.kind not in ("folder", "glob"):
        where = "stdin" if source.kind == "stdin" else source.location
        hint = "JSONL holds one a line, CSV and TSV one a row below their header"
        return SourceNotFound("holds no record", where=where, hint=None if source.kind == "dataset" else hint)
    hint = "hidden and ignored files do not count"
    if skipped:
        kinds = ", ".join(kind for kind, _ in skipped.most_common(4))
        hint = f"{skipped.total()} files of other kinds were passed over: {kinds}"
    what = "no file matches" if source.kind == "glob" else "empty folder, no file in it that fouille reads"
    return SourceNotFound(what, where=source.location, hint=hint)


def _check_readable(path: Path, shown: str) -> None:
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif path.is_file():
            path.open("rb").close()
        elif path.exists():
            raise SourceNotFound("neither a file nor a folder", where=shown, hint="use - to read JSONL from stdin")
        else:
            raise SourceNotFound("no such file or folder", where=shown, hint="check the path")
    except OSError as error:
        raise SourceNotFound(
            f"cannot be read, {system_reason(error)}", where=shown, hint="check its permissions"
        ) from error


def _corpus(folder: Path) -> Path | None:
    # `Path.is_file` raises in a folder whose names can be read and nothing else.
    return next((folder / name for name in CORPUS_NAMES if os.path.isfile(folder / name)), None)  # noqa: PTH113

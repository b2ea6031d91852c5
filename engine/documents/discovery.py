"""The files below a folder that are worth reading, in a stable order."""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

from engine.documents.readers import extension_of, format_of, refusal
from engine.documents.text import normalise
from engine.records import Rejection

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["CORPUS_NAMES", "Found", "Pattern", "display", "is_there", "system_reason", "walk"]

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
# The later one has the last word.
_IGNORE_FILES = (".gitignore", ".fouilleignore")
_LARGEST_IGNORE_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read: where it is, and its name in keys and reports, relative to the source."""

    path: Path
    name: str


def display(path: str | os.PathLike[str]) -> str:
    r"""A path as text: NFC, bytes that are no UTF-8 as `\xNN`."""
    return normalise(os.fsencode(path).decode("utf-8", "backslashreplace"))


def is_there(shown: str) -> bool:
    """Whether an absolute path exists of which `display` made this; what cannot be looked at may."""
    path = Path(shown)
    try:
        if path.exists():
            return True
        # What is shown may be spelt otherwise than what is there: each part is looked for among its neighbours.
        places = [Path(path.anchor)]
        for part in path.parts[1:]:
            places = [Path(one.path) for place in places for one in _inside(place) if display(one.name) == part]
        return bool(places)
    except OSError:
        return True


def _inside(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except NotADirectoryError:
        return []


class Pattern:
    """A glob over paths below its base; a folder that it matches counts with all that lies below.

    Args:
        pattern: `*`, `?` and `[…]` within one name, `**` for any number of folders.
    """

    def __init__(self, pattern: str) -> None:
        self._segments = [segment for segment in pattern.split("/") if segment not in ("", ".")]
        # A Mac spells names in another normal form than most people type.
        self._names = [
            None if s == "**" else re.compile(fnmatch.translate(normalize("NFC", s))) for s in self._segments
        ]

    @property
    def names_extension(self) -> bool:
        """Whether it asks for one kind of file by name (`*.log`), so that an unknown kind is meant too."""
        extension = extension_of(self._segments[-1])
        return bool(extension) and not set(extension) & set("*?[")

    def states(self, states: frozenset[int], name: str) -> frozenset[int]:
        """One step down: from the segments that may come next to those after `name`."""
        following = set()
        for state in self._closed(states):
            if state == len(self._names):
                following.add(state)
                continue
            expected = self._names[state]
            if expected is None:
                following.add(state)
            elif expected.match(normalize("NFC", name)):
                following.add(state + 1)
        return self._closed(following)

    def accepts(self, states: frozenset[int]) -> bool:
        """Whether the path so far is a complete match."""
        return len(self._names) in states

    def _closed(self, states: frozenset[int] | set[int]) -> frozenset[int]:
        """With `**` matching no folder at all, too."""
        closed = set(states)
        for state in sorted(states):
            while state < len(self._names) and self._names[state] is None:
                state += 1
                closed.add(state)
        return frozenset(closed)


_EVERYTHING = Pattern("**")


def walk(
    base: Path, pattern: Pattern | None = None, skipped: Counter[str] | None = None
) -> Iterator[Found | Rejection]:
    """Files below `base`, sorted by name within each folder; folders and files that cannot be read as rejections.

    Left out: hidden names, what ignore files name, links to what is found below `base` under its own name, everything
    that is no regular file, and files of a kind that is not read here, which `skipped` counts by extension.
    """
    return _Walk(base, pattern or _EVERYTHING, Counter() if skipped is None else skipped).run()


class _Walk:
    def __init__(self, base: Path, pattern: Pattern, skipped: Counter[str]) -> None:
        self.base, self.pattern, self.skipped = base, pattern, skipped
        self.real_base = os.path.realpath(base)
        self.visited: set[tuple[int, int]] = set()
        self.top = _Folder(base, "", list(_specs_above(Path(self.real_base))), frozenset({0}))
        self.specs: dict[Path, GitIgnoreSpec | None] = {}  # of the folders that links lead through

    def run(self) -> Iterator[Found | Rejection]:
        waiting = [self._folder(self.top)]
        while waiting:  # a stack of folders rather than recursion: they may be nested as deeply as the system allows
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
            elif isinstance(entry, _Folder):
                waiting.append(self._folder(entry))
            else:
                yield entry

    def _folder(self, place: "_Folder") -> Iterator["Found | Rejection | _Folder"]:
        folder, prefix, rules, states = place
        try:
            status = folder.stat()
            entries = sorted(entry.name for entry in folder.iterdir())
        except OSError as error:
            yield Rejection(
                display(prefix.rstrip("/") or folder.name), f"folder cannot be read, {system_reason(error)}"
            )
            return
        if (status.st_dev, status.st_ino) in self.visited:
            return
        self.visited.add((status.st_dev, status.st_ino))
        own = _spec_of(folder, entries)
        rules = [(own, prefix), *rules] if own else rules
        is_beir = any(name in entries for name in CORPUS_NAMES)
        for name in entries:
            following = self.pattern.states(states, name)
            questions = is_beir and name in ("queries.jsonl", "queries.jsonl.gz", "qrels")
            if name.startswith((".", "~$")) or questions or not following:
                continue
            yield from self._entry(_Folder(folder / name, prefix + name, rules, following))

    def _entry(self, entry: "_Folder") -> Iterator["Found | Rejection | _Folder"]:
        path, name, rules, states = entry
        try:
            mode = path.stat().st_mode
        except OSError as error:
            # Of any kind: it may have been a folder, whose documents are not gone because nobody can look.
            if not _is_ignored(name, rules) and not _is_ignored(name + "/", rules):
                is_dead = error.errno in (ENOENT, ENOTDIR) and path.is_symlink()
                yield Rejection(
                    display(name), "a link to nothing" if is_dead else f"cannot be read, {system_reason(error)}"
                )
            return
        is_folder = S_ISDIR(mode)
        if _is_ignored(name + "/" if is_folder else name, rules):
            return
        if path.is_symlink() and self._leads_back(path, is_folder=is_folder):
            return
        if is_folder:
            yield entry._replace(prefix=name + "/")
        elif S_ISREG(mode) and self.pattern.accepts(states):
            yield from self._file(path, name)

    def _file(self, path: Path, name: str) -> Iterator[Found | Rejection]:
        if reason := refusal(name):
            yield Rejection(display(name), reason)
        elif format_of(name) or self.pattern.names_extension:
            yield Found(path, display(name))
        else:
            self.skipped[extension_of(name) or "no extension"] += 1

    def _leads_back(self, link: Path, *, is_folder: bool) -> bool:
        """Whether a link points at a folder around the base, or at what the walk meets under its own name."""
        target = os.path.realpath(link)
        shared = os.path.commonpath([target, self.real_base])
        if shared != self.real_base:
            return shared == target
        parts = Path(target).relative_to(self.real_base).parts
        return self._is_met(parts, is_folder=is_folder)

    def _is_met(self, parts: tuple[str, ...], *, is_folder: bool) -> bool:
        """Whether the walk comes to this path below the base: no part of it hidden, ignored or beside the pattern."""
        folder, name, rules, states = self.top
        for at, part in enumerate(parts, 1):
            if own := self._spec(folder):
                rules = [(own, name), *rules]
            name += part + "/" if at < len(parts) or is_folder else part
            states = self.pattern.states(states, part)
            if part.startswith(".") or not states or _is_ignored(name, rules):
                return False
            folder /= part
        return is_folder or self.pattern.accepts(states)

    def _spec(self, folder: Path) -> "GitIgnoreSpec | None":
        if folder not in self.specs:
            self.specs[folder] = _spec_of(folder, list(_IGNORE_FILES))
        return self.specs[folder]


# Patterns, and what a name below the source needs in front (or loses) to be relative to the file that holds them.
_Rules = tuple["GitIgnoreSpec", str]


class _Folder(NamedTuple):
    """A folder to walk: where it is, its name below the base, the rules that hold in it, the pattern's states."""

    path: Path
    prefix: str
    rules: list[_Rules]
    states: frozenset[int]


def _is_ignored(name: str, rules: list[_Rules]) -> bool:
    """What the nearest ignore file with an opinion says; within it, the last pattern."""
    for spec, place in rules:
        relative = place[1:] + name if place.startswith("/") else name.removeprefix(place)
        verdict = spec.check_file(normalize("NFC", relative)).include
        if verdict is not None:
            return verdict
    return False


def _spec_of(folder: Path, entries: list[str]) -> "GitIgnoreSpec | None":
    lines: list[str] = []
    for name in _IGNORE_FILES:
        if name in entries:
            try:
                with (folder / name).open("rb") as file:
                    content = file.read(_LARGEST_IGNORE_FILE).decode("utf-8-sig", "surrogateescape")
            except OSError:
                continue  # git, too, goes on without an ignore file that it cannot read
            lines += normalize("NFC", content).splitlines()  # as names are when they are compared
    if not lines:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:  # git passes over a line that is no pattern
        return False
    return True


def _specs_above(base: Path) -> Iterator[_Rules]:
    """The ignore files between `base` and the root of its git repository, nearest first.

    A file that names `base` itself is left out: who asks for an ignored folder wants it.
    """
    parents = [base, *base.parents]
    root = next((at for at, folder in enumerate(parents) if os.path.lexists(folder / ".git")), 0)
    for folder in parents[1 : root + 1]:
        spec = _spec_of(folder, list(_IGNORE_FILES))
        place = base.relative_to(folder).as_posix() + "/"
        if spec and not spec.check_file(place).include:
            yield spec, "/" + place


def system_reason(error: OSError) -> str:
    """What the system said, in lower case."""
    return (error.strerror or type(error).__name__).lower()

"""The one file of a segment store that changes: which files count, and up to which sequence they are complete.

It is replaced atomically, carries its own checksum, and names every file with its size and digest. Any other
file in the folder is ignored.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import CollectionOutdated
from indexes.durable import damaged, read_bytes, replace_file
from indexes.sealed import StoredFile

__all__ = ["MANIFEST", "Attachment", "Manifest", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
_FORMAT = "fouille segments"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file derived from the segments that another library reads, and what its maker noted about it."""

    file: StoredFile
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a segment store.

    Attributes:
        kind: what its rows are; see `SegmentStore.create`.
        applied: the catalog's sequence that `segments` less `deletions` is complete for.
        numbered: how many files were ever named, so that no name returns.
        segments: what readers see.
        pending: durable, but seen by no reader before the next commit.
        deletions: file of the rows of `segments` that are deleted.
        attachments: by name.
    """

    kind: Mapping[str, Any]
    applied: int = 0
    numbered: int = 0
    segments: tuple[StoredFile, ...] = ()
    pending: tuple[StoredFile, ...] = ()
    deletions: StoredFile | None = None
    attachments: Mapping[str, Attachment] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Every file that counts, the manifest included."""
        files = [*self.segments, *self.pending, *(attachment.file for attachment in self.attachments.values())]
        if self.deletions is not None:
            files.append(self.deletions)
        return {MANIFEST, *(file.name for file in files)}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, durably and atomically.

    Raises:
        StorageError: the system refused to write; the old manifest stands.
    """
    content = json.dumps(asdict(manifest), separators=(",", ":"), ensure_ascii=False)
    record = {"format": _FORMAT, "version": _VERSION, "crc32": zlib.crc32(content.encode()), "content": content}
    replace_file(folder / MANIFEST, [json.dumps(record, ensure_ascii=False).encode()])


def read_manifest(folder: Path) -> Manifest:
    """The manifest as it stands.

    Raises:
        CollectionDamaged: missing, or not what its checksum says.
        CollectionOutdated: written by a newer fouille.
        StorageError: the system refused to read.
    """
    path = folder / MANIFEST
    try:
        record = json.loads(read_bytes(path))
        if record["format"] != _FORMAT:
            raise damaged(path, "is not a manifest that fouille wrote")
        if record["version"] > _VERSION:
            raise CollectionOutdated("was written by a newer fouille", where=path, hint="upgrade fouille")
        if zlib.crc32(record["content"].encode()) != record["crc32"]:
            raise damaged(path, "does not match its checksum")
        return _parse(json.loads(record["content"]))
    except FileNotFoundError as error:
        raise damaged(path, "is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "cannot be read as a manifest") from error


def _file(entry: dict[str, Any]) -> StoredFile:
    stored = StoredFile(**entry)
    if Path(stored.name).name != stored.name:
        raise ValueError("a file outside of its folder")
    return stored


def _parse(content: dict[str, Any]) -> Manifest:
    deletions = content["deletions"]
    return Manifest(
        kind=content["kind"],
        applied=content["applied"],
        numbered=content["numbered"],
        segments=tuple(_file(file) for file in content["segments"]),
        pending=tuple(_file(file) for file in content["pending"]),
        deletions=None if deletions is None else _file(deletions),
        attachments={
            name: Attachment(_file(entry["file"]), entry["about"]) for name, entry in content["attachments"].items()
        },
    )

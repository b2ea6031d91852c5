"""Immutable files of named arrays, read through a memory map, whose every page is checked before it is believed.

Layout, little-endian:

    magic 8s, version u32, length of header u32, length of body u64, reserved 8 bytes
    header: JSON, {"kind": str, "arrays": {name: [dtype, shape, offset in the file]}}
    arrays, each at a multiple of 64
    a CRC-32 for each 4096 bytes of all that stands above (the body)
    SHA-256 of those checksums: the file's digest, which the manifest repeats

Opening checks size, digest and header: microseconds, whatever the size. A page's checksum is compared when an array
that lies on it is first read, so a search neither reads the whole file nor ever trusts a flipped bit.
"""

import hashlib
import json
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.ragged import ranges
from indexes.durable import damaged, refused, replace_file

__all__ = ["PAGE", "SealedArray", "SealedFile", "StoredFile", "checksums", "digest", "seal"]

PAGE = 4096
_MAGIC = b"FOUILLE\x01"
_VERSION = 1
_PREFIX = struct.Struct("<8sIIQ8x")
_ALIGNMENT = 64
_DIGEST_BYTES = 32
_DTYPES = {"float16", "float32", "uint8", "uint16", "uint32", "int32", "int64"}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a manifest says of a file: its name in the folder, its bytes, its digest (hexadecimal), its rows."""

    name: str
    size: int
    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class SealedArray:
    """An array to seal, handed over in parts so that a merge need not hold it: parts stack along the first axis."""

    dtype: str
    shape: tuple[int, ...]
    parts: Iterable[NDArray[Any]]

    @classmethod
    def whole(cls, array: NDArray[Any]) -> "SealedArray":
        """One array in one part."""
        return cls(array.dtype.name, array.shape, (array,))


def checksums(body: memoryview, page: int = PAGE) -> NDArray[np.uint32]:
    """CRC-32 of each `page` bytes: uint32[ceil(len / page)]."""
    return np.array([zlib.crc32(body[at : at + page]) for at in range(0, len(body), page)], dtype="<u4")


def digest(table: NDArray[np.uint32]) -> bytes:
    """What stands for a whole file: SHA-256 over its pages' checksums."""
    return hashlib.sha256(table.tobytes()).digest()


def seal(path: Path, kind: str, arrays: Mapping[str, SealedArray], rows: int) -> StoredFile:
    """Write a sealed file at `path`, durably and all or nothing.

    Raises:
        StorageError: the system refused to write.
        ValueError: parts that do not make up the shape they announce.
    """
    for name, array in arrays.items():
        if array.dtype not in _DTYPES:
            raise ValueError(f"array {name!r}: dtype {array.dtype} cannot be stored")
    header, places, body = _plan(kind, arrays)
    table: list[int] = []
    outcome: list[tuple[int, bytes]] = []

    def paged() -> Iterator[bytes | bytearray]:
        buffer = bytearray()
        for piece in _pieces(header, body, arrays, places):
            buffer += piece
            whole = len(buffer) - len(buffer) % PAGE
            if whole >= 1 << 20:
                table.extend(checksums(memoryview(buffer)[:whole]).tolist())
                yield buffer[:whole]
                del buffer[:whole]
        table.extend(checksums(memoryview(buffer)).tolist())
        yield buffer
        sums = np.array(table, dtype="<u4")
        outcome.append((body + sums.nbytes + _DIGEST_BYTES, digest(sums)))
        yield sums.tobytes() + outcome[0][1]

    replace_file(path, paged())
    size, seal_digest = outcome[0]
    return StoredFile(path.name, size, seal_digest.hex(), rows)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _plan(kind: str, arrays: Mapping[str, SealedArray]) -> tuple[bytes, dict[str, int], int]:
    """Header bytes, the place of each array, the length of the body."""
    sizes = {name: prod(array.shape) * np.dtype(array.dtype).itemsize for name, array in arrays.items()}
    room = 512
    while True:
        at, places = _aligned(_PREFIX.size + room), {}
        for name, size in sizes.items():
            places[name] = at
            at = _aligned(at + size)
        layout = {name: [array.dtype, list(array.shape), places[name]] for name, array in arrays.items()}
        header = json.dumps({"kind": kind, "arrays": layout}, separators=(",", ":")).encode()
        if len(header) <= room:
            return header, places, at
        room *= 2


def _pieces(
    header: bytes, body: int, arrays: Mapping[str, SealedArray], places: Mapping[str, int]
) -> Iterator[bytes | memoryview]:
    prefix = _PREFIX.pack(_MAGIC, _VERSION, len(header), body) + header
    yield prefix
    at = len(prefix)
    for name, array in arrays.items():
        yield bytes(places[name] - at)
        at, rows = places[name], 0
        for part in array.parts:
            stored = np.ascontiguousarray(part, dtype=np.dtype(array.dtype).newbyteorder("<"))
            rows += len(stored)
            at += stored.nbytes
            if stored.nbytes:
                yield stored.data.cast("B")
        if rows != array.shape[0] or at - places[name] != prod(array.shape) * np.dtype(array.dtype).itemsize:
            raise ValueError(f"array {name!r}: its parts do not make up {array.shape}")
    yield bytes(body - at)


class SealedFile:
    """A sealed file, open for reading.

    The map outlives the file's name: a reader goes on undisturbed when a merge removes the file.

    Attributes:
        path: where it was opened.
        arrays: read-only views by name, unchecked; call `check` or `check_rows` before believing them.
    """

    def __init__(self, path: Path, stored: StoredFile, kind: str) -> None:
        """Map `path` and check its size, digest and header against what the manifest says.

        Raises:
            FileNotFoundError: no such file.
            CollectionDamaged: truncated, foreign or altered.
            StorageError: the system refused to read.
        """
        self.path = path
        with refused(path), path.open("rb") as file:
            size = file.seek(0, 2)
            if size != stored.size or size < _PREFIX.size + _DIGEST_BYTES:
                raise damaged(path, f"holds {size} bytes instead of {stored.size}")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        magic, version, header_length, body = _PREFIX.unpack_from(self._view)
        pages = -(-body // PAGE)
        if magic != _MAGIC or version != _VERSION or body + 4 * pages + _DIGEST_BYTES != size:
            raise damaged(path, "is not a file that fouille wrote")
        self._table: NDArray[np.uint32] = np.frombuffer(self._view, "<u4", pages, body)
        if not digest(self._table) == bytes(self._view[size - _DIGEST_BYTES :]) == bytes.fromhex(stored.digest):
            raise damaged(path, "does not match its checksum")
        self._body = body
        self._sound: NDArray[np.bool_] = np.zeros(pages, np.bool_)
        self._all_sound = False
        self._check_pages(np.arange(-(-min(_PREFIX.size + header_length, body) // PAGE)))
        header = json.loads(bytes(self._view[_PREFIX.size : _PREFIX.size + header_length]))
        if header["kind"] != kind:
            raise damaged(path, f"holds {header['kind']} where {kind} should be")
        self._places: dict[str, int] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape, place) in header["arrays"].items():
            self._places[name] = place
            flat: NDArray[Any] = np.frombuffer(self._view, np.dtype(dtype).newbyteorder("<"), prod(shape), place)
            self.arrays[name] = flat.reshape(shape)

    def checked(self, name: str) -> NDArray[Any]:
        """A whole array, after checking every page it lies on.

        Raises:
            CollectionDamaged: a page does not match its checksum.
        """
        array = self.arrays[name]
        if array.size:
            self.check_rows(name, np.zeros(1, np.int64), np.full(1, len(array), np.int64))
        return array

    def check_rows(self, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Check the pages that hold rows `starts[i]` to `stops[i]`, exclusive, of an array.

        Raises:
            CollectionDamaged: a page does not match its checksum.
        """
        if self._all_sound:
            return
        array, some = self.arrays[name], stops > starts
        if not some.any():
            return
        row_bytes = array.strides[0]
        first = (self._places[name] + starts[some] * row_bytes) // PAGE
        last = (self._places[name] + stops[some] * row_bytes - 1) // PAGE
        pages = ranges(first, last - first + 1)
        self._check_pages(np.unique(pages[~self._sound[pages]]))

    def check(self) -> None:
        """Check every page of the file, again even if it was found sound before.

        Raises:
            CollectionDamaged: a page does not match its checksum.
        """
        self._sound[:] = False
        self._all_sound = False
        self._check_pages(np.arange(len(self._table)))

    def _check_pages(self, pages: NDArray[np.int64]) -> None:
        for page in pages.tolist():
            if zlib.crc32(self._view[page * PAGE : min((page + 1) * PAGE, self._body)]) != self._table[page]:
                raise damaged(self.path, f"is altered at byte {page * PAGE}: it does not match its checksum")
        self._sound[pages] = True
        self._all_sound = bool(len(pages)) and bool(self._sound.all())

"""The package that models ship in: as small as they can be kept without changing a bit of their weights.

    package/
    fouille-fr-bi-encoder/
        SHA256SUMS           of every file that this model is unpacked from; `sha256sum -c` reads it
        manifest.json        which stored file each file of the model is, which stored tensor each tensor
        header.json          the header of its model.safetensors, to the byte
        compact.safetensors  its tensors: as they are, or as 4-bit codes and scales (see `four_bit`)
        config.json, tokenizer.json, README.md ...
    fouille-fr-cross-encoder/
        ...

A tensor or a tokenizer that one model stores is not stored again: later models read it there. So a model's folder
depends on those before it, never on those after. `python -m engine.training.shipped` makes the one that ships.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from engine.errors import InvalidOption, ModelDamaged, ModelUnsupported
from engine.models import four_bit
from engine.models.folders import put_in_place, write
from engine.models.weights import in_order, map_tensors

__all__ = ["SUMS", "Stored", "pack", "unpack"]

FORMAT = 1
SUMS, MANIFEST, HEADER, TENSORS = "SHA256SUMS", "manifest.json", "header.json", "compact.safetensors"
_WEIGHTS = "model.safetensors"

# The files of a model's folder that are packed, and what its training left there among them.
_CARRIED = ("*.json", "README.md", "LICENSE*")
_LEFT = ("trainer_state.json", "model.safetensors.index.json", MANIFEST, HEADER)
_FLOATS: Mapping[str, np.dtype[Any]] = {"F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
_CODES, _SCALES = ".codes", ".scales"
_AGAIN = "install fouille again"

Tensors = dict[str, NDArray[Any]]


class Stored(NamedTuple):
    """What became of one model in a package.

    Attributes:
        name: of the model.
        size: bytes of its own files.
        four_bit: tensors that it keeps as 4-bit codes.
        plain: tensors that it keeps as they are.
        shared: tensors that it reads from models ahead of it.
    """

    name: str
    size: int
    four_bit: int
    plain: int
    shared: int


def pack(models: Mapping[str, Path], package: Path) -> list[Stored]:
    """Make a package of models, and see that it gives them back; the package that was there is replaced at the end.

    Args:
        models: name -> folder in the format of sentence-transformers with a `model.safetensors`, in the order in which
            later ones may read what earlier ones store.
        package: the folder to make.

    Raises:
        InvalidOption: the folder holds something other than a package.
        ModelDamaged: a model lacks a file, or its weights cannot be read.
        StorageError: the disk is full or the folder read-only.
    """
    if package.exists() and not all((inside / SUMS).is_file() for inside in package.iterdir()):
        raise InvalidOption("holds something other than a package of models", where=package, hint="choose another")
    with put_in_place(package, replace=True) as folder:
        packer = _Packer(folder)
        stored = [packer.add(name, model) for name, model in models.items()]
        for name, model in models.items():
            _prove(folder, name, model)
    return stored


def unpack(package: Path, name: str, folder: Path) -> None:
    """Write a model's folder, as it was packed; it is there whole or not at all.

    Args:
        package: the package's folder.
        name: of the model.
        folder: to make; it must not exist, or be empty.

    Raises:
        ModelDamaged: a file of the package is missing or not what its checksum says; names it.
        ModelUnsupported: the package was made by a newer fouille.
        StorageError: the folder is taken or cannot be written.
    """
    files = _checked(package, name)
    manifest = json.loads(files[f"{name}/{MANIFEST}"])
    if manifest["format"] != FORMAT:
        raise ModelUnsupported("was packed by a newer fouille", where=package / name, hint=_AGAIN)
    stored = {file: load(content) for file, content in files.items() if file.endswith(TENSORS)}
    with put_in_place(folder) as made:
        for file, source in manifest["files"].items():
            write(made / file, [files[source]])
        header = files[f"{name}/{HEADER}"]
        places = manifest["tensors"]
        tensors = (_tensor(stored[places[key][0]], places[key][1]) for key in in_order(json.loads(header)))
        write(made / _WEIGHTS, chain([len(header).to_bytes(8, "little"), header], tensors))


class _Packer:
    """Adds models to a package, each knowing what those ahead of it have stored."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._tensors: dict[str, tuple[str, str]] = {}
        self._files: dict[str, str] = {}

    def add(self, name: str, model: Path) -> Stored:
        """Store a model under a name."""
        own = self._package / name
        header, tensors = _read_weights(model / _WEIGHTS)
        kept: Tensors = {}
        places = {key: self._place(name, key, tensor, kept) for key, tensor in tensors.items()}
        files = {file: self._file(name, file, content) for file, content in _carried(model)}
        write(own / TENSORS, [save(kept)])
        write(own / HEADER, [header])
        manifest = {"format": FORMAT, "files": files, "tensors": places}
        write(own / MANIFEST, [_as_json(manifest)])
        held = {f"{name}/{file}" for file in (TENSORS, HEADER, MANIFEST)}
        sources = sorted({*held, *files.values(), *(place for place, _ in places.values())})
        write(own / SUMS, [_sums(self._package, name, sources)])
        coded = sum(key.endswith(_CODES) for key in kept)
        plain = len(kept) - 2 * coded
        size = sum(file.stat().st_size for file in own.rglob("*") if file.is_file())
        return Stored(name, size, coded, plain, len(tensors) - coded - plain)

    def _place(self, name: str, key: str, tensor: NDArray[Any], kept: Tensors) -> tuple[str, str]:
        """The file and the name that a tensor is stored under; it joins `kept` when no file holds it yet."""
        known = _digest(tensor.dtype.str, str(tensor.shape), tensor.tobytes())
        if known not in self._tensors:
            self._tensors[known] = f"{name}/{TENSORS}", key
            packed = four_bit.encode(tensor) if tensor.dtype == np.float16 else None
            if packed is None:
                kept[key] = tensor
            else:
                kept[f"{key}{_CODES}"], kept[f"{key}{_SCALES}"] = packed
        return self._tensors[known]

    def _file(self, name: str, file: str, content: bytes) -> str:
        """Where a file is stored; only tokenizers are worth sharing, and a model's card should stand beside it."""
        known = _digest(content) if file == "tokenizer.json" else f"{name}/{file}"
        if known not in self._files:
            self._files[known] = f"{name}/{file}"
            write(self._package / name / file, [content])
        return self._files[known]


def _read_weights(path: Path) -> tuple[bytes, Tensors]:
    """The header of a safetensors file, as it stands there, and the tensors, mapped; odd types as their bytes."""
    header, stored = map_tensors(path)
    tensors: Tensors = {}
    for key, tensor in stored.items():
        kind = _FLOATS.get(tensor.kind)
        tensors[key] = tensor.content if kind is None else tensor.content.view(kind).reshape(tensor.shape)
    return header, tensors


def _carried(model: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a model's folder that are packed beside its weights: name, content."""
    modules = json.loads((model / "modules.json").read_bytes()) if (model / "modules.json").is_file() else []
    paths = {path for pattern in _CARRIED for path in model.glob(pattern) if path.name not in _LEFT}
    paths |= {model / module["path"] / "config.json" for module in modules if module["path"]}
    for path in sorted(path for path in paths if path.is_file()):
        content = path.read_bytes()
        yield (
            path.relative_to(model).as_posix(),
            _untrained_tokenizer(content) if path.name == "tokenizer.json" else content,
        )


def _untrained_tokenizer(tokenizer: bytes) -> bytes:
    """tokenizer.json without the truncation and padding that training left in it."""
    parsed = json.loads(tokenizer)
    if not parsed.get("truncation") and not parsed.get("padding"):
        return tokenizer
    # As the tokenizers library writes it, so that it equals the file of a model that was never trained.
    return json.dumps(parsed | {"truncation": None, "padding": None}, indent=2, ensure_ascii=False).encode()


def _prove(package: Path, name: str, model: Path) -> None:
    """Check that unpacking restores the weights bit for bit."""
    made = package.with_name(f"{package.name}.proof")
    try:
        unpack(package, name, made)
        same = (made / _WEIGHTS).read_bytes() == (model / _WEIGHTS).read_bytes()
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not same:
        raise ModelDamaged("does not come back as it was packed", where=model / _WEIGHTS, hint="save the model again")


def _checked(package: Path, name: str) -> dict[str, bytes]:
    """Every file that a model is unpacked from, by its path in the package, once its checksum has been seen."""
    sums = package / name / SUMS
    found: dict[str, bytes] = {}
    for line in _content(sums).decode("ascii", "replace").splitlines():
        digest, _, listed = line.partition("  ")
        file = os.path.normpath(f"{name}/{listed}")
        found[file] = _content(package / file)
        if hashlib.sha256(found[file]).hexdigest() != digest:
            raise ModelDamaged("is not what its checksum says", where=package / file, hint=_AGAIN)
    if f"{name}/{MANIFEST}" not in found:
        raise ModelDamaged(f"does not list {MANIFEST}", where=sums, hint=_AGAIN)
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelDamaged(f"cannot be read: {error.strerror}", where=path, hint=_AGAIN) from error


def _tensor(stored: Tensors, key: str) -> memoryview:
    """A stored tensor's bytes."""
    if f"{key}{_CODES}" not in stored:
        return np.ascontiguousarray(stored[key]).reshape(-1).view(np.uint8).data
    packed = four_bit.FourBit(stored[f"{key}{_CODES}"], stored[f"{key}{_SCALES}"])
    return four_bit.decode(packed).reshape(-1).view(np.uint8).data


def _sums(package: Path, name: str, files: Iterable[str]) -> bytes:
    lines = []
    for file in files:
        with (package / file).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{digest}  {os.path.relpath(file, name)}\n")
    return "".join(lines).encode("ascii")


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()


def _as_json(content: object) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii") + b"\n"

"""The models that ship with fouille: unpacked once into the cache folder, and found there ever after.

The folder is named by the package's checksums, so that another package never meets an older one's folder. Each
process unpacks into a folder of its own and renames it: two at once, or one that is killed, do no harm.
"""

import atexit
import hashlib
import shutil
import tempfile
from pathlib import Path

from engine.errors import ModelDamaged, StorageError
from engine.models.folders import sweep
from engine.settings import cache_dir, shipped

__all__ = ["found", "unpacked"]

_NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
_of_this_process: dict[Path, Path] = {}


def unpacked(name: str) -> Path | None:
    """The folder of a model that ships, unpacked when it is not yet; None for any other model.

    Raises:
        ModelDamaged, ModelUnsupported: its package cannot be used.
        StorageError: neither the cache folder nor the system's folder for temporary files can be written.
    """
    if (package := shipped(name)) is None:
        return None
    place = _place(package, name)
    if not _is_whole(place):
        place = _of_this_process.get(place) or _unpack(package, name, place)
    return place


def found(name: str) -> Path | None:
    """The unpacked folder if it exists; never unpacks."""
    package = shipped(name)
    place = package and _place(package, name)
    return place if place and _is_whole(place) else None


def _place(package: Path, name: str) -> Path:
    """Where a model is unpacked to; its last part is the model's name."""
    from engine.models.compact import SUMS

    sums = package / name / SUMS
    try:
        key = hashlib.sha256(sums.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelDamaged(f"cannot be read: {error.strerror}", where=sums, hint="install fouille again") from error
    return cache_dir() / "models" / key[:16] / name


def _is_whole(place: Path) -> bool:
    """Whether the folder is there and no cleaner of caches has been at it."""
    return all((place / file).is_file() for file in _NEEDED)


def _unpack(package: Path, name: str, place: Path) -> Path:
    """Unpack a model into the cache; into a folder of this process where the cache cannot be written."""
    from engine.models.compact import unpack

    for _ in range(2):
        try:
            sweep(place)
            unpack(package, name, place)
        except StorageError:
            if _is_whole(place):  # another process was faster
                return place
            if not place.exists():
                break
            shutil.rmtree(place, ignore_errors=True)
        else:
            return place
    base = Path(tempfile.mkdtemp(prefix="fouille-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    unpack(package, name, base / name)
    _of_this_process[place] = base / name
    return base / name

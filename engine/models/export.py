"""A model's folder, written out for other programs: sentence-transformers, transformers, FlagReranker."""

from pathlib import Path

from engine.errors import InvalidOption
from engine.models import registry
from engine.models.folders import put_in_place, write
from engine.settings import expanded

__all__ = ["export"]

_AT_ONCE = 1 << 20


def export(name_or_path: str, folder: Path) -> Path:
    """Write a model as `sentence_transformers.CrossEncoder(folder)` or `SentenceTransformer(folder)` loads it.

    A model that ships comes out as it was before it was packed; of any other, what fouille would download is copied.

    Args:
        name_or_path: a name or a folder, fetched as for a search.
        folder: to make; it must not exist, or be empty.

    Returns:
        The folder.

    Raises:
        InvalidOption: the folder holds something.
        ModelNotFound, ModelDamaged, ModelUnsupported: the model cannot be had.
        StorageError: the folder cannot be written.
    """
    folder = expanded(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidOption("the folder is taken", where=folder, hint="choose another, or empty it")
    source = registry.fetch(name_or_path)
    with put_in_place(folder) as made:
        for name in registry.model_files(source):
            with (source / name).open("rb") as stream:
                write(made / name, iter(lambda: stream.read(_AT_ONCE), b""))
    return folder

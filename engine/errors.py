"""Every error that fouille raises on purpose, in one tree.

Each carries one line for a person: what is wrong, where, and what to do. The command line prints that line and
exits with 2; a library user catches `FouilleError`, or the branch that matters.
"""

__all__ = [
    "CollectionBusy",
    "CollectionDamaged",
    "CollectionError",
    "CollectionNotFound",
    "CollectionOutdated",
    "DependencyMissing",
    "DeviceError",
    "DocumentError",
    "EvaluationError",
    "FouilleError",
    "InvalidOption",
    "InvalidQuestion",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "ModelUnsupported",
    "SourceNotFound",
    "StorageError",
    "TrainingError",
]

REBUILD = "index again with --rebuild"


class FouilleError(Exception):
    """Root of the tree. `str(error)` is one line: what is wrong, where, what to do.

    Args:
        what: what is wrong, with neither a capital it does not need nor a final stop.
        where: the file, line, option or model it concerns.
        hint: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        line = what if where is None else f"{where}: {what}"
        super().__init__(" ".join((line if hint is None else f"{line} ({hint})").split()))


class InvalidOption(FouilleError):
    """A flag, an environment variable, a line of the config file or an argument holds a value that cannot be used."""


class InvalidQuestion(FouilleError):
    """A question holds no text to search for."""


class CollectionError(FouilleError):
    """Something is wrong with one collection on disk."""


class CollectionNotFound(CollectionError):
    """No collection has this name, or the folder is none."""


class CollectionBusy(CollectionError):
    """Another process is writing to the collection."""


class CollectionOutdated(CollectionError):
    """Made by a newer fouille, or with an encoder, analyzer or splitter other than the one asked for."""


class CollectionDamaged(CollectionError):
    """A file of the collection is missing, truncated or not what its checksum says."""

    def __init__(self, what: str, *, where: object = None, hint: str | None = REBUILD) -> None:
        super().__init__(what, where=where, hint=hint)


class StorageError(FouilleError):
    """The system refused to write or read: a full disk, a read-only folder, a missing permission."""


class DocumentError(FouilleError):
    """A document or record cannot be used; raised only where bad input stops the run (`--strict`)."""


class SourceNotFound(DocumentError):
    """A source to index does not exist, cannot be read, or holds nothing to read."""


class ModelError(FouilleError):
    """Something is wrong with a model."""


class ModelNotFound(ModelError):
    """The model is neither a folder, nor in the cache, nor to be downloaded."""


class ModelDamaged(ModelError):
    """A model's files contradict each other: missing tensors, foreign shapes, a tokenizer that does not fit."""


class ModelUnsupported(ModelError):
    """The model is sound, but cannot be run here: a pickled checkpoint, remote code, an unknown architecture."""


class DependencyMissing(FouilleError):
    """A library or a runtime that this work needs (Java, FAISS, torch, an extra) is not installed."""


class DeviceError(FouilleError):
    """The device asked for does not exist here, or has too little memory for a single pair."""


class EvaluationError(FouilleError):
    """A run, qrels or questions file cannot be used; names the file and the line."""


class TrainingError(FouilleError):
    """Training data, a recipe or a base model cannot be used; names the file and the line."""

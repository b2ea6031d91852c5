"""What made a result file: a JSON beside it, and where two of them differ."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from engine.errors import EvaluationError
from engine.evaluation.lines import file_error, replacing

__all__ = [
    "Provenance",
    "brief",
    "differences",
    "file_fingerprint",
    "made_from",
    "made_otherwise",
    "provenance_path",
    "read_provenance",
    "side_by_side",
    "unfair_differences",
    "write_provenance",
]

_PACKAGES = ("fouille", "numpy", "torch", "tokenizers", "faiss-cpu", "faiss-gpu-cu12", "pyserini")
_VOLATILE = frozenset({"made", "seconds", "speed"})  # differ between any two runs and explain nothing
_DERIVED = "options.truncated"  # derived from the other options; absent after a resume
_DECISIVE = ("options", "collection", "models", "inputs")
_VALUES_SHOWN = 6
_WHOLE = 20  # characters up to which a value is shown whole
# What two runs must share for their measures to say which system is better.
_SHARED = frozenset(
    {
        *(f"collection.{name}" for name in ("documents", "passages", "sequence", "sha256")),
        *(f"options.{name}" for name in ("k", "depth", "precision", "encoder_precision", "max_length")),
        "inputs.questions",
    }
)
_FILTERS = ("options.keys", "options.where.")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run comes from.

    Attributes:
        command: what wrote it: run or rerank.
        collection: name, state and counts of what was searched; empty where none was.
        models: hash by name.
        options: every option that shaped the result.
        inputs: sha256 of what was read, by what it was.
        seconds: wall time it took; of the last session alone where it was interrupted.
    """

    command: str
    collection: Mapping[str, Any]
    models: Mapping[str, str]
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The record with the versions of what ran and the date, as it is written."""
        return {
            "command": self.command,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "collection": dict(self.collection),
            "models": dict(self.models),
            "options": dict(self.options),
            "inputs": dict(self.inputs),
            "versions": _versions(),
            "seconds": self.seconds,
        }


def provenance_path(result: str | Path) -> Path:
    """`bm25.trec` has its provenance in `bm25.trec.json`; of a link, beside what it leads to."""
    path = Path(result)
    return Path(f"{path.resolve() if path.is_symlink() else path}.json")


def write_provenance(result: str | Path, provenance: Provenance) -> Path:
    """Writes the JSON beside a result file and returns its path.

    Raises:
        StorageError: the system refused to write.
    """
    path = provenance_path(result)
    with replacing(path) as stream:
        json.dump(provenance.as_json(), stream, ensure_ascii=False, indent=2)
        stream.write("\n")
    return path


def read_provenance(result: str | Path) -> dict[str, Any] | None:
    """The JSON beside a result file, None where there is none.

    Raises:
        EvaluationError: it is there and not a JSON object.
    """
    path = provenance_path(result)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise file_error(error, path) from error
    except ValueError as error:
        raise EvaluationError(f"not JSON: {error}", where=path) from None
    if not isinstance(record, dict):
        raise EvaluationError("not a JSON object", where=path)
    return record


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted name, value in one, value in the other) of all that differs, but for dates, durations and counts."""
    return [(name, left, right) for name, (left, right) in side_by_side([one, other]).items()]


def side_by_side(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of all records, by dotted name, of what is not the same in each, but for dates, durations and counts.

    None stands for what a record does not hold.
    """
    flat = [dict(_flat(record)) for record in records]
    values = {name: [one.get(name) for one in flat] for name in dict.fromkeys(chain.from_iterable(flat))}
    return {
        name: found
        for name, found in values.items()
        if any(value != found[0] for value in found) and name.partition(".")[0] not in _VOLATILE and name != _DERIVED
    }


def made_otherwise(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Options, collection, models and inputs that an earlier record has otherwise than a later one; "" where none."""
    parts = []
    for section in _DECISIVE:
        changed = differences({section: before.get(section, {})}, {section: after.get(section, {})})
        shown = [_former(name.removeprefix(f"{section}."), value) for name, value, _ in changed]
        if len(shown) > _VALUES_SHOWN:
            shown[_VALUES_SHOWN:] = ["…"]
        if shown:
            parts.append(f"other {section}: {', '.join(shown)}")
    return "; ".join(parts)


def _former(name: str, value: object) -> str:
    return f"no {name}" if value is None else f"{name} {brief(value)}"


def unfair_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Those `differences` that make it unfair to compare the measures of two runs.

    They are other documents, questions, models of one name, precision, length or depth, where both records tell; and a
    filter of one search alone. What makes two systems two, such as their stages and weights, is none.
    """
    left, right = dict(_flat(one)), dict(_flat(other))
    same_place = left.get("collection.name") == right.get("collection.name")
    searches = one.get("command") == other.get("command") == "run"

    def matters(name: str) -> bool:
        if name.startswith(_FILTERS):
            return searches
        if name not in left or name not in right:
            return False
        # Sequences count the writes to one collection: those of two say nothing of each other.
        return name.startswith("models.") or (name in _SHARED and (same_place or name != "collection.sequence"))

    return [difference for difference in differences(one, other) if matters(difference[0])]


def made_from(record: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether what has this fingerprint is among the inputs of a record, as a first stage's run is of its reranking."""
    inputs = record.get("inputs")
    return isinstance(inputs, Mapping) and fingerprint in inputs.values()


def brief(value: object) -> str:
    """A value of a provenance as a person compares it: a hash by its beginning."""
    text = "not set" if value is None else str(value)
    return text if len(text) <= _WHOLE else f"{text[:12]}…"


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def file_fingerprint(source: str | Path, of_folder: str = "queries.jsonl*") -> str:
    """sha256 of a file, of the file of a BEIR folder that fits the pattern, or the spec itself for `irds:ID`.

    Raises:
        EvaluationError: the file cannot be read.
    """
    path = Path(source)
    if not path.exists():
        return str(source)
    if path.is_dir():
        found = sorted(path.glob(of_folder))
        return file_fingerprint(found[0]) if found else str(source)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise file_error(error, path) from error


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions

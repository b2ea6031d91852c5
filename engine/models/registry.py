"""The models that fouille knows by name, where a model lies on this machine, and how to get one that does not.

A model is a folder in the format of sentence-transformers and transformers: `config.json`, `tokenizer.json`, weights in
safetensors. Nothing here imports torch, transformers or, unless something is downloaded, huggingface_hub.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from engine.models.fingerprint import content_hash
from engine.models.unpacking import unpacked
from engine.settings import SHIPPED, expanded, shipped

__all__ = [
    "KNOWN",
    "KnownModel",
    "check_files",
    "describe",
    "fetch",
    "locate",
    "model_files",
    "model_hash",
    "obtainable",
    "refuse_pickles",
]

Kind = Literal["cross-encoder", "bi-encoder"]

_HUB_NAME = re.compile(r"(?!.*(?:--|\.\.))[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.ckpt")
_TOKENIZERS = ("tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "spm.model", "vocab.txt", "vocab.json")
_DOWNLOADED = ("*.json", "*.safetensors", "*.model", "vocab.txt", "merges.txt")
_LEFT_THERE = ("onnx/*", "openvino/*", "original/*", "checkpoint-*/*")
"""Patterns of the files that a model needs, and of those that it does not: of other formats and other runs."""
_SECONDS_TO_ANSWER = 5.0
_WAYS_OUT = (
    "give the path of a model folder, put the model into the Hugging Face cache on a machine with a network, "
    "or search without it: --no-rerank, --first-stage bm25"
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that fouille knows by name.

    Attributes:
        name: its name on the Hugging Face hub; without an organisation where it ships with fouille.
        kind: cross-encoder or bi-encoder.
        family: architecture and size in words.
        good_for: when to take it.
        prompts: text in front of a "query" and a "passage"; empty when it takes none.
        trained: tokens it was trained at, None where only its configuration says.
        longest: tokens it can read, None where only its configuration says.
        parameters: in millions.
        licence: as its card states it, None where fouille is not sure.
        measured: how it compares, in a line, where that was measured here.
    """

    name: str
    kind: Kind
    family: str
    good_for: str
    parameters: int
    prompts: Mapping[str, str]
    trained: int | None = None
    longest: int | None = None
    licence: str | None = None
    measured: str | None = None


def _read_known() -> Mapping[str, KnownModel]:
    table = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = table["model"]
    return {row["name"]: KnownModel(**{"prompts": {}, **row}) for row in rows}


KNOWN: Mapping[str, KnownModel] = _read_known()


def describe(name_or_path: str | Path) -> KnownModel | None:
    """What is known of a model, by its full name or by a folder that bears the last part of it."""
    name = str(name_or_path)
    if name in KNOWN:
        return KNOWN[name]
    last = Path(name).name
    return next((model for model in KNOWN.values() if model.name.rpartition("/")[2] == last), None)


def obtainable() -> list[KnownModel]:
    """The known models that can be had here, those that ship first; all but the ones that this copy ships without."""
    return [model for model in KNOWN.values() if model.name not in SHIPPED or shipped(model.name)]


def locate(name_or_path: str | Path) -> Path | None:
    """The folder of a model on this machine.

    A model that ships is unpacked when it is asked for the first time; the name of one is never taken for a folder in
    the working directory. Else a folder as given, else a whole copy in the Hugging Face cache. Never asks the network.

    Returns:
        The folder, or None when there is no such model here.

    Raises:
        ModelDamaged: the model ships, but its package is damaged.
        StorageError: it ships, but there is nowhere to unpack it.
    """
    name = str(name_or_path)
    if (folder := unpacked(name)) is not None:
        return folder
    folder = expanded(name_or_path)
    if folder.is_dir():
        return folder
    return _in_hub_cache(name) if _HUB_NAME.fullmatch(name) else None


def fetch(name_or_path: str | Path) -> Path:
    """The folder of a model, downloaded into the Hugging Face cache when it is not on this machine.

    One quick attempt: a hub that does not answer within seconds is given up.

    Raises:
        ModelNotFound: neither here nor to be had; names the ways out.
        ModelUnsupported: only a pickled checkpoint is to be had.
        ModelDamaged: the folder lacks weights, a tokenizer or `config.json`.
    """
    folder = locate(name_or_path)
    if folder is None:
        name = str(name_or_path)
        if name in SHIPPED:
            raise ModelNotFound("this copy of fouille ships without it", where=name, hint=_WAYS_OUT)
        if not _HUB_NAME.fullmatch(name) or name.startswith(("./", "../")):
            raise ModelNotFound("no such model folder", where=name, hint=_hint(name))
        folder = _download(name)
    check_files(folder)
    return folder


def _hint(name: str) -> str:
    """The ways out; before them the known model that may have been meant, where there is one of nearly this name."""
    from difflib import get_close_matches

    known = {model.name.casefold(): model.name for model in obtainable()}
    known |= {folded.rpartition("/")[2]: full for folded, full in known.items()}
    close = [known[folded] for folded in get_close_matches(name.casefold(), known, n=1, cutoff=0.75)]
    return f"did you mean {close[0]}? Else {_WAYS_OUT}" if close and close != [name] else _WAYS_OUT


def check_files(folder: Path) -> None:
    """See that a folder holds a model that can be loaded without unpickling anything.

    Raises:
        ModelUnsupported: the weights are only there as a pickle.
        ModelDamaged: a file is missing.
    """
    if not (folder / "config.json").is_file():
        raise ModelDamaged("holds no config.json", where=folder, hint="give the folder of a whole model")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        refuse_pickles(folder)
        raise ModelDamaged("holds no weights (model.safetensors)", where=folder, hint="fetch the model again")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelDamaged("holds no tokenizer (tokenizer.json)", where=folder, hint="fetch the model again")


def refuse_pickles(folder: Path) -> None:
    """See that a folder without safetensors holds no weights as a pickle instead.

    Raises:
        ModelUnsupported: it does; names the file.
    """
    for name in _PICKLED:
        if (folder / name).is_file():
            raise ModelUnsupported(
                "a pickled checkpoint can run code when it is loaded",
                where=folder / name,
                hint="convert it to model.safetensors",
            )


def model_files(folder: Path) -> list[str]:
    """The files of a folder that belong to its model, by their path there: those of a download, card and licence."""
    wanted, left = (*_DOWNLOADED, "README.md", "LICENSE*"), (*_LEFT_THERE, ".*")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in names if _matches(name, wanted) and not _matches(name, left)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def model_hash(folder: Path) -> str:
    """A hash of what decides a model's numbers: weights, tokenizer and configuration; 32 hexadecimal digits.

    The files are read once; afterwards their size and time of change vouch for them.
    """
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*/config.json")]
    files += [folder / name for name in _TOKENIZERS if (folder / name).is_file()]
    return content_hash(sorted({file for file in files if file.is_file()}))


def _hub_cache() -> Path:
    """Where huggingface_hub keeps its downloads, by its own variables in its own order."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if chosen := os.environ.get(variable):
            return expanded(chosen)
    home = os.environ.get("HF_HOME")
    if home is None:
        home = str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    return expanded(os.path.expandvars(home)) / "hub"


def _in_hub_cache(name: str) -> Path | None:
    """The newest whole snapshot of a model, the one that `main` points to first."""
    repository = _hub_cache() / f"models--{name.replace('/', '--')}"
    snapshots = repository / "snapshots"
    try:
        found = sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    except OSError:
        return None
    main = repository / "refs" / "main"
    if main.is_file():
        commit = main.read_text(encoding="utf-8", errors="replace").strip()
        found.sort(key=lambda folder: folder.name != commit)
    return next((folder for folder in found if _is_whole(folder)), None)


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot holds all that a load needs; an interrupted download does not."""
    if not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in _TOKENIZERS):
        return False
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
            return all((folder / Path(shard).name).is_file() for shard in shards)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
    return any((folder / name).is_file() for name in (*_WEIGHTS, *_PICKLED))


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # httpx or httpx2, by version

    if constants.HF_HUB_OFFLINE:
        raise ModelNotFound("not on this machine, and HF_HUB_OFFLINE forbids a download", where=name, hint=_hint(name))

    try:
        files = {file.rfilename for file in HfApi().model_info(name, timeout=_SECONDS_TO_ANSWER).siblings or ()}
        if not files.intersection(_WEIGHTS):
            pickled = next((file for file in _PICKLED if file in files), None)
            problem = "no safetensors weights on the hub" + (f", only {pickled}" if pickled else "")
            raise ModelUnsupported(problem, where=name, hint="convert it to model.safetensors")
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(_DOWNLOADED),
                ignore_patterns=list(_LEFT_THERE),
                etag_timeout=_SECONDS_TO_ANSWER,
            )
        )
    except HfHubHTTPError as error:
        code = error.response.status_code
        problem = "no such model on the hub" if code in {401, 404} else f"the hub refuses it (HTTP {code})"
        raise ModelNotFound(f"not on this machine, and {problem}", where=name, hint=_hint(name)) from error
    except (HTTPError, OSError) as error:
        raise ModelNotFound(
            "not on this machine, and the hub cannot be reached", where=name, hint=_hint(name)
        ) from error

"""Settings, resolved once into one frozen object: flag, then environment, then config file, then default.

The config file is `config.toml` in the user's config folder (`FOUILLE_CONFIG_DIR`, else XDG). Its keys are the names of
the fields below; the environment's are the same in capitals after `FOUILLE_`.
"""

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, get_args

from engine.errors import InvalidOption
from engine.records import FirstStage, LongPassages, Precision

__all__ = [
    "SHIPPED",
    "SHIPPED_ENCODER",
    "SHIPPED_RERANKER",
    "VARIABLES",
    "Settings",
    "cache_dir",
    "config_dir",
    "data_dir",
    "default_encoder",
    "default_reranker",
    "expanded",
    "model_name",
    "parse",
    "resolve",
    "shipped",
]

SHIPPED_ENCODER = "fouille-fr-bi-encoder"
SHIPPED_RERANKER = "fouille-fr-cross-encoder"
SHIPPED = (SHIPPED_ENCODER, SHIPPED_RERANKER)
"""The models that ship with fouille, where its package holds them."""


_XDG = {
    "data": ("XDG_DATA_HOME", ".local/share"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "config": ("XDG_CONFIG_HOME", ".config"),
}


def expanded(path: str | Path) -> Path:
    """A path whose `~` is the home folder; that of nobody here is a name like any other, as for a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for nobody's


def _folder(kind: str) -> Path:
    """The user's data, cache or config folder: `FOUILLE_<KIND>_DIR`, else what XDG says."""
    chosen = os.environ.get(f"FOUILLE_{kind.upper()}_DIR")
    if chosen:
        return expanded(chosen).absolute()
    try:
        import platformdirs
    except ImportError:  # where the models run beside torch and little else
        variable, usual = _XDG[kind]
        return Path(os.environ.get(variable) or Path.home() / usual) / "fouille"
    found: str = getattr(platformdirs, f"user_{kind}_dir")("fouille", appauthor=False)
    return Path(found)


def data_dir() -> Path:
    """Where collections and the shell's history live."""
    return _folder("data")


def config_dir() -> Path:
    """Where `config.toml` lives."""
    return _folder("config")


def cache_dir() -> Path:
    """Where what can be made again lives: class-data archive, unpacked models, tokens. Not created here."""
    return _folder("cache")


def shipped(name: str) -> Path | None:
    """The package that holds a shipped model; None where there is none, or for any other model.

    It lies beside the code, or where `FOUILLE_SHIPPED_DIR` says; an empty value does without the models that ship.
    """
    chosen = os.environ.get("FOUILLE_SHIPPED_DIR")
    if name not in SHIPPED or chosen == "":
        return None
    package = Path(__file__).parent / "models" / "shipped" if chosen is None else expanded(chosen).absolute()
    return package if (package / name).is_dir() else None


def model_name(name: str) -> str:
    """A model's name as a collection remembers it: a folder by its whole path, so that it is found from elsewhere."""
    if shipped(name):
        return name
    path = expanded(name)
    return str(path.resolve()) if path.is_dir() else name


def default_encoder() -> str:
    """The bi-encoder of a new collection: the one that ships, else a small one of the hub."""
    return SHIPPED_ENCODER if shipped(SHIPPED_ENCODER) else "intfloat/multilingual-e5-small"


def default_reranker() -> str:
    """The cross-encoder of a new collection: the one that ships, else a small one of the hub."""
    return SHIPPED_RERANKER if shipped(SHIPPED_RERANKER) else "antoinelouis/crossencoder-mMiniLMv2-L6-mmarcoFR"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with. None means what the collection remembers, else the model's or fouille's default."""

    collection: str = "default"
    encoder: str | None = None
    reranker: str | None = None
    first_stage: FirstStage | None = None
    splitter: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_tokens: int | None = None
    max_length: int | None = None
    k: int = 10
    candidates: int | None = None
    k1: float | None = None
    b: float | None = None
    interpolate: float | None = None
    long_passages: LongPassages | None = None

    @property
    def encoder_or_default(self) -> str:
        """The bi-encoder that a new collection takes."""
        return self.encoder or default_encoder()

    @property
    def reranker_or_default(self) -> str:
        """The cross-encoder that a new collection takes."""
        return self.reranker or default_reranker()

    def collection_path(self, name: str | None = None) -> Path:
        """The folder of a collection: a bare name lives under the data folder, anything else is a path.

        Raises:
            InvalidOption: the name is empty or cannot name a folder.
        """
        name = self.collection if name is None else name
        if not name or "\0" in name or name in {".", ".."}:
            raise InvalidOption(f"{name!r} cannot name a collection", hint="give a name or the path of a folder")
        if "/" in name or os.sep in name or name.startswith("~"):
            return expanded(name)
        return data_dir() / "collections" / name


def _whole(low: int, given: object) -> int:
    try:
        value = low - 1 if isinstance(given, bool) else int(str(given))
    except ValueError:
        value = low - 1
    if value < low:
        raise InvalidOption(f"not a whole number from {low} up")
    return value


def _real(low: float, high: float, given: object) -> float:
    try:
        value = math.nan if isinstance(given, bool) else float(str(given))
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InvalidOption(f"not a number from {low:g} to {high:g}")
    return value


def _text(given: object) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidOption("not a text")
    return given


def _one_of(choices: Sequence[str], given: object) -> str:
    if given not in choices:
        raise InvalidOption(f"not one of {', '.join(choices)}")
    return str(given)


# Settings, and `fusion_weight`, which only a collection remembers.
_READ: Mapping[str, Callable[[object], Any]] = {
    "collection": _text,
    "encoder": _text,
    "reranker": _text,
    "first_stage": partial(_one_of, get_args(FirstStage)),
    "splitter": _text,
    "device": _text,
    "precision": partial(_one_of, ("auto", *get_args(Precision))),
    "batch_tokens": partial(_whole, 1),
    "max_length": partial(_whole, 8),
    "k": partial(_whole, 1),
    "candidates": partial(_whole, 1),
    "k1": partial(_real, 0, 1000),
    "b": partial(_real, 0, 1),
    "fusion_weight": partial(_real, 0, 1),
    "interpolate": partial(_real, 0, 1000),
    "long_passages": partial(_one_of, get_args(LongPassages)),
}


def parse(name: str, given: object, *, where: str | None = None) -> Any:
    """The value of a setting, from a text or from a TOML value.

    Raises:
        InvalidOption: it cannot be used; `where` says what held it.
    """
    try:
        return _READ[name](given)
    except InvalidOption as error:
        raise InvalidOption(f"{str(given)[:40]!r} is {error}", where=where) from None


def _config() -> dict[str, Any]:
    path = config_dir() / "config.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(f"cannot be read: {error}", where=path, hint="mend or remove it") from error
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(table) - set(known)):
        raise InvalidOption(f"no setting is called {unknown[0]!r}", where=path, hint=f"known: {', '.join(known)}")
    return table


VARIABLES = (
    *(f"FOUILLE_{field.name.upper()}" for field in fields(Settings)),
    *(f"FOUILLE_{kind}_DIR" for kind in ("DATA", "CACHE", "CONFIG", "SHIPPED")),
)
"""Every variable of the environment that is read."""


def resolve(flags: Mapping[str, object | None] | None = None) -> Settings:
    """Settings from flags (None: not given), the environment, the config file and the defaults, in that order.

    Raises:
        InvalidOption: a value cannot be used; names the flag, variable or file that holds it.
    """
    flags = flags or {}
    config = _config()
    values: dict[str, Any] = {}
    for field in fields(Settings):
        name = field.name
        variable = f"FOUILLE_{name.upper()}"
        if flags.get(name) is not None:
            where, given = f"--{name.replace('_', '-')}", flags[name]
        elif os.environ.get(variable):
            where, given = variable, os.environ[variable]
        elif name in config:
            where, given = f"{config_dir() / 'config.toml'}, {name}", config[name]
        else:
            continue
        values[name] = parse(name, given, where=where)
    return Settings(**values)

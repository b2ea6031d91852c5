"""`fouille doctor`: what this machine has, what works, and how to mend what does not."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, Literal

from engine.errors import FouilleError
from engine.settings import VARIABLES, Settings, cache_dir, config_dir, data_dir, resolve
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import Style
from engine.terminal.suggestions import did_you_mean

__all__ = ["Check", "checks_record", "examine", "render"]

State = Literal["works", "note", "broken"]
_MARKS: dict[State, tuple[str, str]] = {"works": ("✓", "green"), "note": ("•", "yellow"), "broken": ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing examined.

    Attributes:
        name: what was looked at.
        state: `works`; `note`, when fouille does without it; `broken`, when something asked for would fail.
        found: what was found, or what is wrong.
        mend: what to do about it.
    """

    name: str
    state: State
    found: str
    mend: str | None = None


def examine(settings: Settings | None = None) -> list[Check]:
    """Look at everything fouille stands on; a check that fails becomes a finding, never an error.

    Args:
        settings: those to look at; None for what the environment and the config file say.
    """
    found: list[Check] = []
    if settings is None:
        try:
            settings = resolve()
        except FouilleError as error:
            settings = Settings()
            found.append(_broken("settings", error))
    for name, look in _LOOKS.items():
        try:
            found += look(settings)
        except FouilleError as error:
            found.append(_broken(name, error))
        except Exception as error:  # noqa: BLE001 - whatever a library does here is the finding
            found.append(Check(name, "broken", f"{type(error).__name__}: {error}", "install fouille again"))
    return found


def _broken(name: str, error: FouilleError) -> Check:
    return Check(name, "broken", error.what if error.where is None else f"{error.where}: {error.what}", error.hint)


def _python(_: Settings) -> Iterator[Check]:
    yield Check("Python", "works", f"{sys.version.split()[0]} ({sys.executable})")


def _java(_: Settings) -> Iterator[Check]:
    from indexes import jvm

    home = jvm.java_home()
    yield Check("Java", "works", f"{home.version} from {home.origin} ({home.path})")
    for note in home.skipped:
        yield Check("Java", "note", f"skipped: {note}", "nothing to do, unless you meant that one")


def _lucene(_: Settings) -> Iterator[Check]:
    from indexes import jvm

    jar = jvm.lucene_jar()
    with _silent_stderr():
        jvm.start()
    yield Check("Lucene", "works", f"starts ({jar.name})")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Java's own warnings are no finding of ours, and they bypass `sys.stderr`."""
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _faiss(_: Settings) -> Iterator[Check]:
    names = {(found.name or "").lower() for found in distributions()}
    installed = sorted(name for name in names if name.startswith("faiss-"))
    if not installed:
        yield Check("FAISS", "broken", "not installed: no dense index", "pip install 'fouille[cpu]', or 'fouille[gpu]'")
        return
    if len(installed) > 1:
        extra = " and ".join(installed)
        yield Check("FAISS", "broken", f"{extra} overwrite each other", f"pip uninstall {extra}, then install one")
        return
    from indexes.approximate import load_faiss

    faiss = load_faiss()
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    yield Check("FAISS", "works", f"{faiss.__version__} ({installed[0]}, {f'{gpus} GPU' if gpus else 'CPU'})")


def _torch(_: Settings) -> Iterator[Check]:
    from engine.models import device

    facts = device.describe()
    abilities = [name for name in ("bf16", "int8") if facts.get(name)]
    hardware = f"; {' and '.join(abilities)} in hardware" if abilities else ""
    yield Check("torch", "works", f"{facts['torch']}, {facts['cores']} threads on {facts['cpu']}{hardware}")
    gpus = facts.get("gpus")
    if not isinstance(gpus, Sequence) or not gpus:
        yield Check("GPU", "note", "none that torch can see", "nothing to do: the CPU computes, more slowly")
        return
    for gpu in gpus:
        yield Check("GPU", "works", f"{gpu['name']}, {gpu['memory'] / 2**30:.0f} GiB, capability {gpu['capability']}")


def _transformers(_: Settings) -> Iterator[Check]:
    found = []
    for package in ("tokenizers", "safetensors", "onnxruntime", "onnx", "transformers", "sentence-transformers"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Check("models", "broken", f"{package} is not installed", f"pip install {package}")
    yield Check("models", "works", ", ".join(found))


def _default_models(settings: Settings) -> Iterator[Check]:
    from engine.models.registry import check_files, locate

    for role, name, without in (
        ("encoder", settings.encoder_or_default, "BM25 alone finds the candidates"),
        ("reranker", settings.reranker_or_default, "the first stage alone answers"),
    ):
        folder = locate(name)
        if folder is None:
            mend = f"name a folder with --{role}, or fetch the model where there is a network"
            yield Check(role, "note", f"{name} is not on this machine: {without}", mend)
        else:
            check_files(folder)
            yield Check(role, "works", f"{name} ({folder})")


def _precision(settings: Settings) -> Iterator[Check]:
    """How the default reranker would compute; nothing where it is not at hand, or is not ours to run."""
    from engine.errors import ModelUnsupported
    from engine.models.registry import locate

    if (folder := locate(settings.reranker_or_default)) is None:
        return
    from engine.models.model import Model

    with suppress(ModelUnsupported):
        model = Model(folder, task="classify", device=settings.device)
        chosen = model.precisions(settings.precision)
        draft = f"{chosen.draft} draft, the first hits again in " if chosen.draft else ""
        yield Check("precision", "works", f"{settings.precision}: {draft}{chosen.scores}")
        yield Check("attention", "works", model.attention(chosen.draft or chosen.scores))


def _folders(_: Settings) -> Iterator[Check]:
    for name, variable, folder in (
        ("data folder", "FOUILLE_DATA_DIR", data_dir()),
        ("cache folder", "FOUILLE_CACHE_DIR", cache_dir()),
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Check(name, "broken", f"{folder}: {error.strerror}", f"make it writable, or set {variable}")
        else:
            yield Check(name, "works", str(folder))


def _configuration(_: Settings) -> Iterator[Check]:
    config = config_dir() / "config.toml"
    yield Check("config file", "works", str(config) if config.is_file() else f"none ({config})")
    for name in sorted(os.environ):
        if name.startswith("FOUILLE_") and name not in VARIABLES:
            yield Check("environment", "note", f"{name} is not read", did_you_mean(name, VARIABLES))


def _completion(_: Settings) -> Iterator[Check]:
    # Where Typer writes them (typer.completion).
    places = (".bash_completions/fouille.sh", ".zfunc/_fouille", ".config/fish/completions/fouille.fish")
    installed = [place for place in places if (Path.home() / place).is_file()]
    if installed:
        yield Check("completion", "works", ", ".join(f"~/{place}" for place in installed))
    else:
        yield Check("completion", "note", "not installed for a shell", "fouille --install-completion")


_LOOKS: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "Python": _python,
    "Java": _java,
    "Lucene": _lucene,
    "FAISS": _faiss,
    "torch": _torch,
    "models": _transformers,
    "default models": _default_models,
    "precision": _precision,
    "folders": _folders,
    "configuration": _configuration,
    "completion": _completion,
}


def render(found: Sequence[Check], style: Style) -> str:
    """One line for each finding, and one below it for how to mend it."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        mark, colour = _MARKS[check.state]
        lines.append(f"{style.paint(mark, colour)} {check.name:<{width}}  {sanitise_line(check.found)}")
        if check.mend is not None:
            lines.append(style.paint(f"  {'':<{width}}  → {sanitise_line(check.mend)}", "dim"))
    return "\n".join(lines)


def checks_record(found: Sequence[Check]) -> dict[str, Any]:
    """The findings for JSON."""
    return {"works": all(check.state != "broken" for check in found), "checks": [asdict(check) for check in found]}

"""What this machine computes on: cores, instructions, accelerators, and the precision that suits them."""

import ctypes
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from engine.cores import usable_cores
from engine.errors import DeviceError, InvalidOption
from engine.records import Precision

__all__ = ["Cpu", "check_precision", "choose_devices", "cpu", "describe", "torch_version"]

_NAME = re.compile(r"cpu|cuda(:(?P<index>\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor.

    Attributes:
        name: model name, for people and as a key of what was measured.
        flags: instruction sets, as Linux names them; empty where they cannot be read.
        cores: threads to compute with.
    """

    name: str
    flags: frozenset[str]
    cores: int

    @property
    def has_bf16_products(self) -> bool:
        """Whether it multiplies bf16 matrices in hardware."""
        return bool(self.flags & {"amx_bf16", "avx512_bf16"})

    @property
    def has_int8_products(self) -> bool:
        """Whether it multiplies 8-bit integers in hardware."""
        return bool(self.flags & {"amx_int8", "avx512_vnni", "avx_vnni"})


@cache
def cpu() -> Cpu:
    """The processor of this machine."""
    name = "unknown processor"
    flags: frozenset[str] = frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    if facts:
        family = "/".join(facts.get(key, "?") for key in ("cpu family", "model", "stepping"))
        name = f"{facts.get('model name', name)} ({family})"
        flags = frozenset(facts.get("flags", "").split())
    return Cpu(name, flags, usable_cores())


def choose_devices(asked: str) -> list[str]:
    """The devices to compute on, as torch names them; several GPUs share a batch run.

    torch is imported only where a GPU may be at hand and is not ruled out.

    Args:
        asked: `auto` (every GPU, else the CPU), `cpu`, `cuda` (every GPU), `cuda:1`, or `cuda:0,cuda:2`.

    Raises:
        InvalidOption: the name means nothing.
        DeviceError: there is no such device here.
    """
    if asked == "cpu":
        return ["cpu"]
    count = _gpus()
    if asked == "auto":
        asked = "cuda" if count else "cpu"
    if asked == "cuda" and count:
        return [f"cuda:{index}" for index in range(count)]
    found = []
    for name in map(str.strip, asked.split(",")):
        match = _NAME.fullmatch(name)
        if match is None:
            raise InvalidOption(f"no device is called {name!r}", where="device", hint="auto, cpu or cuda")
        index = int(match["index"] or 0)
        if name != "cpu" and index >= count:
            hint = f"GPUs here: {count}" if count else "no GPU is visible to torch; the cpu is always there"
            raise DeviceError(f"there is no {name}", where="device", hint=hint)
        found.append(name if name == "cpu" else f"cuda:{index}")
    if len(found) > 1 and (len(set(found)) < len(found) or "cpu" in found):
        raise InvalidOption(
            f"{asked} is no list of GPUs, each once", where="device", hint="such as cuda:0,cuda:1, or one device"
        )
    return found


def _gpus() -> int:
    """How many GPUs torch can use."""
    if torch_version().endswith("+cpu") or not _driver_is_here():
        return 0
    import torch

    return torch.cuda.device_count()


@cache
def torch_version() -> str:
    """The version of torch, without the second that importing it takes; of importlib.metadata, half a tenth."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return "none"
    try:
        written = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        written = ""
    version = re.search(r"""^__version__ = ['"](.+)['"]""", written, re.MULTILINE)
    return version[1] if version else "unknown"


def _driver_is_here() -> bool:
    """Whether the library of a GPU's driver can be loaded; finding out takes a thousandth of torch's import."""
    if Path("/dev/kfd").exists():  # AMD's, whose library torch brings along
        return True
    for library in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def check_precision(asked: str, device: str) -> None:
    """Refuse a precision that means nothing, or that the device does not have.

    Raises:
        InvalidOption: the name means nothing, or the device cannot compute in it.
    """
    if asked not in ("auto", *get_args(Precision)):
        hint = f"auto, {', '.join(get_args(Precision))}"
        raise InvalidOption(f"no precision is called {asked!r}", where="precision", hint=hint)
    kind = device.partition(":")[0]
    if (kind, asked) in {("cpu", "fp16"), ("cuda", "int8")}:
        raise InvalidOption(f"{asked} is not for {kind}", where="precision", hint="leave it at auto")
    if asked == "int8" and not cpu().has_int8_products:
        raise InvalidOption("this processor has no 8-bit products", where="precision", hint="leave it at auto")


def describe() -> dict[str, object]:
    """What `fouille doctor` shows of the devices, JSON-able."""
    import torch

    processor = cpu()
    gpus = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        gpus.append({"name": facts.name, "memory": facts.total_memory, "capability": f"{facts.major}.{facts.minor}"})
    return {
        "cpu": processor.name,
        "cores": processor.cores,
        "bf16": processor.has_bf16_products,
        "int8": processor.has_int8_products,
        "torch": str(torch.__version__),
        "gpus": gpus,
    }

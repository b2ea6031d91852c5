"""What this machine computes on: cores, instructions, accelerators, and the precision that suits them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import torch

from engine.cores import usable_cores
from engine.errors import DeviceError, InvalidOption
from engine.records import Precision

__all__ = ["Cpu", "check_precision", "choose_devices", "cpu", "describe"]


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


def choose_devices(asked: str) -> list[torch.device]:
    """The devices to compute on; several GPUs share a batch run.

    Args:
        asked: `auto` (every GPU, else the CPU), `cpu`, `cuda` (every GPU), `cuda:1`, or `cuda:0,cuda:2`.

    Raises:
        InvalidOption: the name means nothing.
        DeviceError: there is no such device here.
    """
    count = torch.cuda.device_count() if asked != "cpu" else 0
    if asked == "auto":
        asked = "cuda" if count else "cpu"
    if asked == "cuda" and count:
        return [torch.device("cuda", index) for index in range(count)]
    devices = []
    for name in asked.split(","):
        try:
            device = torch.device(name.strip())
        except RuntimeError as error:
            raise InvalidOption(f"no device is called {name!r}", where="device", hint="auto, cpu or cuda") from error
        if device.type not in {"cpu", "cuda"}:
            raise InvalidOption(f"{device.type} is not supported", where="device", hint="auto, cpu or cuda")
        if device.type == "cuda" and (device.index or 0) >= count:
            hint = f"GPUs here: {count}" if count else "no GPU is visible to torch; the cpu is always there"
            raise DeviceError(f"there is no {name.strip()}", where="device", hint=hint)
        devices.append(device)
    if len(devices) > 1 and (len(set(devices)) < len(devices) or {device.type for device in devices} != {"cuda"}):
        raise InvalidOption(
            f"{asked} is no list of GPUs, each once", where="device", hint="such as cuda:0,cuda:1, or one device"
        )
    return devices


def check_precision(asked: str, device: torch.device) -> None:
    """Refuse a precision that means nothing, or that the device does not have.

    Raises:
        InvalidOption: the name means nothing, or the device cannot compute in it.
    """
    if asked not in ("auto", *get_args(Precision)):
        hint = f"auto, {', '.join(get_args(Precision))}"
        raise InvalidOption(f"no precision is called {asked!r}", where="precision", hint=hint)
    if (device.type, asked) in {("cpu", "fp16"), ("cuda", "int8")}:
        raise InvalidOption(f"{asked} is not for {device.type}", where="precision", hint="leave it at auto")
    if asked == "int8" and not cpu().has_int8_products:
        raise InvalidOption("this processor has no 8-bit products", where="precision", hint="leave it at auto")


def describe() -> dict[str, object]:
    """What `fouille doctor` shows of the devices, JSON-able."""
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

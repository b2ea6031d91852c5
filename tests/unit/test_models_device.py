import json
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from engine.errors import DeviceError, InvalidOption
from engine.models import device as devices
from engine.models import precision


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("asked", "count", "chosen"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 2, ["cpu"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cuda:0,cuda:1", 3, ["cuda:0", "cuda:1"]),
    ],
)
def test_devices_are_those_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, count: int, chosen: list[str]
) -> None:
    gpus(monkeypatch, count)
    assert [str(device) for device in devices.choose_devices(asked)] == chosen


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "cuda:0,cuda:1"])
def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    gpus(monkeypatch, 1 if "," in asked or ":" in asked else 0)
    with pytest.raises(DeviceError, match=r"device: there is no cuda"):
        devices.choose_devices(asked)


@pytest.mark.parametrize("asked", ["gpu", "", "mps", "meta"])
def test_a_device_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(InvalidOption, match="device: "):
        devices.choose_devices(asked)


@pytest.mark.parametrize("asked", ["cuda:0,cpu", "cpu,cuda:0", "cuda:1,cuda:1", "cpu,cpu"])
def test_a_list_is_of_gpus_each_once(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    gpus(monkeypatch, 2)
    with pytest.raises(InvalidOption, match="no list of GPUs"):
        devices.choose_devices(asked)


@pytest.mark.parametrize(("asked", "device"), [("fp8", "cpu"), ("fp16", "cpu"), ("int8", "cuda")])
def test_a_precision_the_device_does_not_have_is_refused(asked: str, device: str) -> None:
    with pytest.raises(InvalidOption, match="precision: "):
        devices.check_precision(asked, torch.device(device))


def test_8_bits_are_refused_where_the_processor_has_no_such_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu", lambda: devices.Cpu("old", frozenset({"avx2"}), 2))
    with pytest.raises(InvalidOption, match="8-bit"):
        devices.check_precision("int8", torch.device("cpu"))


def test_the_doctors_facts_are_json() -> None:
    facts = json.loads(json.dumps(devices.describe()))
    assert facts["cores"] >= 1
    assert facts["cpu"]


def processor(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(precision, "cpu", lambda: devices.Cpu("some processor", frozenset(flags), 1))


def gain(monkeypatch: pytest.MonkeyPatch, value: float) -> list[float]:
    measured: list[float] = []

    def measure(*_: int) -> float:
        measured.append(value)
        return value

    monkeypatch.setattr(precision, "_gain", measure)
    return measured


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_bf16_hardware_the_choice_is_fp32_unmeasured(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    processor(monkeypatch, "avx2", "avx512f")
    measured = gain(monkeypatch, 9.0)
    assert precision.cpu_precision(384, 1536) == "fp32"
    assert not measured
    assert not cache.exists()


@pytest.mark.parametrize(("value", "choice"), [(1.9, "bf16"), (1.1, "fp32")])
def test_bf16_is_chosen_when_it_gains_and_remembered(
    monkeypatch: pytest.MonkeyPatch, cache: Path, value: float, choice: str
) -> None:
    processor(monkeypatch, "avx512_bf16")
    measured = gain(monkeypatch, value)
    assert precision.cpu_precision(384, 1536) == choice
    assert precision.cpu_precision(384, 1536) == choice
    assert len(measured) == 1, "the second answer is remembered"
    assert [path.name for path in cache.iterdir()] == ["cpu-precision.json"]
    precision.cpu_precision(768, 3072)
    assert len(measured) == 2, "another shape is measured on its own"


@pytest.mark.parametrize("content", ["{", "[1]", '{"key": "fast"}', "\udcff"])
def test_an_unreadable_memory_is_measured_anew(monkeypatch: pytest.MonkeyPatch, cache: Path, content: str) -> None:
    processor(monkeypatch, "amx_bf16")
    measured = gain(monkeypatch, 2.0)
    cache.mkdir()
    (cache / "cpu-precision.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert len(measured) == 1


def test_a_cache_that_cannot_be_written_costs_only_the_memory(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    processor(monkeypatch, "amx_bf16")
    measured = gain(monkeypatch, 2.0)
    cache.write_text("a file where the folder should be")
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert len(measured) == 2


@pytest.mark.parametrize(("gain", "choice"), [(1.3, "bf16"), (1.1, "fp32")])
def test_the_gain_is_that_of_the_shortest_products(
    monkeypatch: pytest.MonkeyPatch, cache: Path, gain: float, choice: str
) -> None:
    processor(monkeypatch, "avx512_bf16")
    now = 0.0

    def affine(_: torch.device, dtype: torch.dtype):
        seconds = chain([90.0], repeat(gain if dtype == torch.float32 else 1.0))  # caches are cold at first

        def product(_: torch.Tensor) -> None:
            nonlocal now
            now += next(seconds)

        return lambda *_: product

    monkeypatch.setattr(precision, "choose_affine", affine)
    monkeypatch.setattr(precision.time, "thread_time", lambda: now)
    assert precision.cpu_precision(32, 64) == choice
    assert list(json.loads((cache / "cpu-precision.json").read_bytes()).values()) == [gain]

import json
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.errors import DeviceError, InvalidOption
from engine.models import device as devices
from engine.models import precision


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda: count)


@pytest.mark.parametrize(
    ("asked", "count", "chosen"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 2, ["cpu"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cuda:0,cuda:1", 3, ["cuda:0", "cuda:1"]),
        ("cuda:1, cuda", 3, ["cuda:1", "cuda:0"]),
    ],
)
def test_devices_are_those_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, count: int, chosen: list[str]
) -> None:
    gpus(monkeypatch, count)
    assert devices.choose_devices(asked) == chosen


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
        devices.check_precision(asked, device)


def test_8_bits_are_refused_where_the_processor_has_no_such_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu", lambda: devices.Cpu("old", frozenset({"avx2"}), 2))
    with pytest.raises(InvalidOption, match="8-bit"):
        devices.check_precision("int8", "cpu")


def test_the_doctors_facts_are_json() -> None:
    facts = json.loads(json.dumps(devices.describe()))
    assert facts["cores"] >= 1
    assert facts["cpu"]


def processor(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(precision, "cpu", lambda: devices.Cpu("some processor", frozenset(flags), 1))


def measured_as(monkeypatch: pytest.MonkeyPatch, **rates: float) -> list[tuple[int, int]]:
    """The shapes that were measured, each found to have these rates."""
    shapes: list[tuple[int, int]] = []

    def measure(forms: list[str], hidden: int, intermediate: int) -> dict[str, float]:
        shapes.append((hidden, intermediate))
        return {form: rates[form.split()[-1] if form.startswith("torch") else "onnx"] for form in forms}

    monkeypatch.setattr(precision, "_measured", measure)
    return shapes


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_of_this_process", {})
    return tmp_path / "cache"


@pytest.fixture(params=[True, False])
def has_onnx(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    monkeypatch.setattr(precision, "_onnx_version", lambda: "1.0" if request.param else None)
    return bool(request.param)


@pytest.mark.usefixtures("has_onnx")
def test_without_bf16_hardware_the_choice_is_fp32_unmeasured(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    processor(monkeypatch, "avx2", "avx512f")
    measured = measured_as(monkeypatch, fp32=1, bf16=9, onnx=1)
    assert precision.cpu_precision(384, 1536) == "fp32"
    assert not measured
    assert not cache.exists()


@pytest.mark.usefixtures("has_onnx")
@pytest.mark.parametrize(("rate", "choice"), [(190, "bf16"), (110, "fp32")])
def test_bf16_is_chosen_when_it_gains_and_remembered(
    monkeypatch: pytest.MonkeyPatch, cache: Path, rate: float, choice: str
) -> None:
    processor(monkeypatch, "avx512_bf16")
    measured = measured_as(monkeypatch, fp32=100, bf16=rate, onnx=100)
    assert precision.cpu_precision(384, 1536) == choice
    assert precision.cpu_precision(384, 1536) == choice
    assert len(measured) == 1, "the second answer is remembered"
    assert [path.name for path in cache.iterdir()] == ["cpu-products.json"]
    precision.cpu_precision(768, 3072)
    assert len(measured) == 2, "another shape is measured on its own"
    precision.cpu_precision(32, 64)
    assert len(measured) == 2, "narrow ones count as the narrowest measured"


def test_bf16_must_gain_on_the_faster_of_both_in_fp32(
    monkeypatch: pytest.MonkeyPatch, cache: Path, has_onnx: bool
) -> None:
    processor(monkeypatch, "avx512_bf16")
    measured_as(monkeypatch, fp32=100, bf16=150, onnx=140)
    assert precision.cpu_precision(384, 1536) == ("fp32" if has_onnx else "bf16")


@pytest.mark.parametrize(("rate", "choice"), [(119, True), (121, False), (20, True)])
def test_fp32_runs_through_onnx_runtime_unless_torch_is_faster_by_what_its_start_costs(
    monkeypatch: pytest.MonkeyPatch, cache: Path, has_onnx: bool, rate: float, choice: bool
) -> None:
    processor(monkeypatch, "avx2")
    measured_as(monkeypatch, fp32=rate, onnx=100)
    assert precision.onnx_is_as_fast(384, 1536) is (choice and has_onnx)


def test_where_nothing_can_be_remembered_nothing_is_measured_to_choose_a_runtime(
    monkeypatch: pytest.MonkeyPatch, cache: Path, has_onnx: bool
) -> None:
    processor(monkeypatch, "avx2")
    measured = measured_as(monkeypatch, fp32=200, onnx=100)
    cache.write_text("a file where the folder should be")
    assert precision.onnx_is_as_fast(384, 1536) is has_onnx
    assert not measured


@pytest.mark.parametrize("content", ["{", "[1]", '{"key": "fast"}', '{KEY: {"torch fp32": "fast"}}', "\udcff"])
def test_an_unreadable_memory_is_measured_anew(monkeypatch: pytest.MonkeyPatch, cache: Path, content: str) -> None:
    processor(monkeypatch, "amx_bf16")
    measured = measured_as(monkeypatch, fp32=100, bf16=200, onnx=100)
    precision.cpu_precision(384, 1536)
    (key,) = json.loads((cache / "cpu-products.json").read_bytes())
    content = content.replace("KEY", json.dumps(key))
    (cache / "cpu-products.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    monkeypatch.setattr(precision, "_of_this_process", {})
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert len(measured) == 2


def test_a_cache_that_cannot_be_written_costs_only_the_memory(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    processor(monkeypatch, "amx_bf16")
    measured = measured_as(monkeypatch, fp32=100, bf16=200, onnx=100)
    cache.write_text("a file where the folder should be")
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert len(measured) == 1, "a process measures once"
    monkeypatch.setattr(precision, "_of_this_process", {})
    assert precision.cpu_precision(384, 1536) == "bf16"
    assert len(measured) == 2, "the next one measures anew"


def test_the_rate_is_that_of_the_shortest_product(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    processor(monkeypatch, "avx512_bf16")
    now = 0.0

    def product(least: float, *_: object):
        seconds = chain([90.0], repeat(least))  # caches are cold at first

        def run() -> None:
            nonlocal now
            now += next(seconds)

        return run

    for form, least in (("torch fp32", 2.0), ("torch bf16", 1.0), ("onnxruntime fp32", 4.0)):
        monkeypatch.setitem(precision._FORMS, form, partial(product, least))
    monkeypatch.setattr(precision, "_onnx_version", lambda: "1.0")
    monkeypatch.setattr(precision.time, "thread_time", lambda: now)
    assert precision.cpu_precision(10_000, 1_000_000) == "bf16"
    (rates,) = json.loads((cache / "cpu-products.json").read_bytes()).values()
    assert rates == {"torch fp32": 2560.0, "torch bf16": 5120.0, "onnxruntime fp32": 1280.0}


def test_every_form_runs_and_is_measured(cache: Path) -> None:
    forms = [form for form in precision._FORMS if "onnx" not in form or precision._onnx_version()]
    rates = precision._measured(forms, 64, 128)
    assert set(rates) == set(forms)
    assert min(rates.values()) > 0


@pytest.mark.parametrize(
    ("build", "library", "count"), [("2.13.0+cpu", True, 0), ("2.13.0", False, 0), ("2.13.0", True, 2)]
)
def test_torch_is_asked_for_gpus_only_where_it_may_have_some(
    monkeypatch: pytest.MonkeyPatch, build: str, library: bool, count: int
) -> None:
    def load(name: str) -> None:
        if not library:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(devices, "torch_version", lambda: build)
    monkeypatch.setattr(devices.ctypes, "CDLL", load)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose_devices("auto") == (["cuda:0", "cuda:1"] if count else ["cpu"])


def test_torchs_version_is_read_without_importing_it() -> None:
    assert devices.torch_version.__wrapped__() == torch.__version__


@pytest.mark.parametrize(("content", "version"), [('__version__ = "3.0+rocm"\n', "3.0+rocm"), ("", "unknown")])
def test_a_torch_of_unknown_version_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, version: str
) -> None:
    (tmp_path / "version.py").write_text(content)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(devices, "find_spec", lambda _: found)
    assert devices.torch_version.__wrapped__() == version

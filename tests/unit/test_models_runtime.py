import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from engine.errors import DeviceError, InvalidOption, ModelDamaged, ModelUnsupported
from engine.models import device as devices
from engine.models import model as models
from engine.models import planner, torch_runtime
from engine.models.architecture import Task, read_architecture
from engine.models.attention import (
    BucketedAttention,
    PackedBounds,
    ProductAttention,
    VarlenAttention,
    choose_attention,
    runs,
)
from engine.models.batch import PackedBatch
from engine.models.encoder import Encoder
from engine.models.linear import PackedAffine, PlainAffine, QuantisedAffine, choose_affine
from engine.models.runtime import Runtime
from engine.models.torch_runtime import TorchRuntime, torch_workers
from engine.models.weights import expected_tensors, open_weights
from engine.models.workers import share_out

CPU = torch.device("cpu")
LENGTHS = [9, 9, 9, 8, 3, 1, 30, 2, 2, 17]
needs_onnx = pytest.mark.skipif(not (find_spec("onnxruntime") and find_spec("onnx")), reason="no ONNX Runtime here")
needs_int8 = pytest.mark.skipif(not devices.cpu().has_int8_products, reason="this processor has no 8-bit products")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {"model_type": "xlm-roberta", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"intermediate_size": 128, "max_position_embeddings": 42, "vocab_size": 50, "type_vocab_size": 1}
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "relevant"}}))
    generator = torch.Generator().manual_seed(5)
    names = expected_tensors(read_architecture(tmp_path, "classify"), "roberta.").values()
    save_file(
        {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in names}, tmp_path / "model.safetensors"
    )
    return tmp_path


def by_torch(folder: Path, task: Task = "classify", devices: tuple[str, ...] = ("cpu",)) -> TorchRuntime:
    architecture = read_architecture(folder, task)
    stored = open_weights(folder, architecture)
    return torch_runtime.load(
        architecture, stored, device_names=list(devices), precision="fp32", flowing="fp32", folder=folder
    )


def by_onnx(folder: Path, task: Task = "classify") -> Runtime:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from engine.models.onnx_runtime import OnnxRuntime

    architecture = read_architecture(folder, task)
    return OnnxRuntime(architecture, open_weights(folder, architecture), folder)


@pytest.fixture(params=[by_torch, by_onnx])
def runtime(folder: Path, request: pytest.FixtureRequest) -> Runtime:
    found: Runtime = request.param(folder)
    return found


def batch_of(lengths: list[int]) -> PackedBatch:
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    tokens = np.random.default_rng(1).integers(2, 50, starts[-1]).astype(np.int32)
    return PackedBatch(tokens, None, starts, max(lengths, default=0))


def bounds_of(lengths: list[int]) -> PackedBounds:
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    return PackedBounds(starts.tolist(), torch.from_numpy(starts), max(lengths))


def test_scores_do_not_depend_on_how_a_batch_is_shared_out(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(LENGTHS * 3)
    monkeypatch.setattr(runtime, "_cores", 1)
    whole = runtime.run(batch)
    monkeypatch.setattr(runtime, "_cores", 3)
    assert len(runtime.submit(batch).parts) > 3
    np.testing.assert_allclose(runtime.run(batch), whole, atol=1e-5, rtol=0)


def test_batches_under_way_are_collected_in_any_order(runtime: Runtime) -> None:
    first, second = batch_of(LENGTHS), batch_of(LENGTHS[::-1])
    handles = runtime.submit(first), runtime.submit(second)
    np.testing.assert_array_equal(runtime.collect(handles[1]), runtime.run(second))
    np.testing.assert_array_equal(runtime.collect(handles[0]), runtime.run(first))


def test_copies_on_several_devices_share_the_batches_of_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, shared = by_torch(folder), by_torch(folder, devices=("cpu",) * 3)
    took: list[int] = []
    compute = torch_runtime._compute

    def noted(encoder: Encoder, batch: PackedBatch) -> Any:
        took.append(id(encoder))
        return compute(encoder, batch)

    monkeypatch.setattr(torch_runtime, "_compute", noted)
    monkeypatch.setattr(shared, "_cores", 1)
    lengths = np.array(LENGTHS * 3, np.int64)

    def pack(rows: Any) -> PackedBatch:
        return batch_of(lengths[rows].tolist())

    found = planner.run(shared, lengths, pack, 40)
    counts = Counter(took)
    assert len(counts) == 3
    assert max(counts.values()) - min(counts.values()) <= 1
    assert shared.in_flight == 4
    np.testing.assert_allclose(found, planner.run(alone, lengths, pack, 40), atol=1e-5, rtol=0)


def test_each_worker_computes_with_one_thread_and_the_rest_of_torch_with_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = torch_workers.__wrapped__(2)
        inside = {pool.submit(torch.get_num_threads).result() for _ in range(4)}
        assert (inside, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), pytest.param("int8", 0.15, marks=needs_int8)])
def test_lower_precision_stays_near_fp32(folder: Path, precision: str, tolerance: float) -> None:
    batch = batch_of(LENGTHS)
    exact = models.Model(folder, task="classify", device="cpu").runtime("fp32").run(batch)
    runtime = models.Model(folder, task="classify", device="cpu").runtime(precision)
    scores = runtime.run(batch)
    assert (runtime.precision, scores.dtype) == (precision, np.float32)
    assert np.abs(scores - exact).max() < tolerance * np.abs(exact).max()


@needs_int8
def test_8_bit_scores_do_not_depend_on_the_batch(folder: Path) -> None:
    runtime = models.Model(folder, task="classify", device="cpu").runtime("int8")
    batch = batch_of(LENGTHS)
    together = runtime.run(batch)
    last = PackedBatch(batch.tokens[-17:], None, np.array([0, 17], np.int32), 17)
    np.testing.assert_allclose(runtime.run(last)[0], together[-1], atol=2e-2, rtol=0)


@needs_int8
@pytest.mark.parametrize(("fastest", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_flows_between_8_bit_products_is_what_the_processor_is_fast_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fastest: str, dtype: torch.dtype
) -> None:
    seen, product = set(), QuantisedAffine.__call__

    def watched(self: QuantisedAffine, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        seen.add(x.dtype)
        return product(self, x, residual)

    monkeypatch.setattr(models, "cpu_precision", lambda *_: fastest)
    monkeypatch.setattr(QuantisedAffine, "__call__", watched)
    models.Model(folder, task="classify", device="cpu").runtime("int8").run(batch_of([5]))
    assert seen == {dtype}


def test_an_empty_batch_gives_no_rows(runtime: Runtime) -> None:
    assert runtime.run(batch_of([])).shape == (0, 1)


def test_a_sequence_at_the_limit_runs_and_one_beyond_it_is_refused(runtime: Runtime) -> None:
    assert runtime.architecture.max_length == 40
    assert runtime.run(batch_of([40])).shape == (1, 1)
    with pytest.raises(InvalidOption, match="41 tokens, the model reads 40"):
        runtime.submit(batch_of([3, 41]))


@pytest.mark.parametrize("make", [by_torch, by_onnx])
def test_numbers_that_are_not_finite_are_no_scores(make: Callable[[Path], Runtime], folder: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.dense.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelDamaged, match=f"{folder}: .* not finite"):
        make(folder).run(batch_of([4]))


def test_an_unknown_architecture_is_unsupported_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "new", "auto_map": {}}')
    with pytest.raises(ModelUnsupported, match="'new'"):
        models.Model(tmp_path, task="embed")


@pytest.mark.parametrize(
    ("make", "error", "full"),
    [
        (by_torch, MemoryError(), True),
        (by_torch, torch.OutOfMemoryError("CUDA out of memory"), True),
        (by_torch, RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (by_torch, RuntimeError("CUDA error: out of memory"), True),
        (by_torch, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (by_torch, RuntimeError("shapes differ"), False),
        (by_torch, ValueError("can't allocate memory"), False),
        (by_onnx, MemoryError(), True),
        (
            by_onnx,
            RuntimeError("Non-zero status code returned while running Gemm node: Failed to allocate memory for"),
            True,
        ),
        (by_onnx, RuntimeError("std::bad_alloc"), True),
        (by_onnx, RuntimeError("Non-zero status code returned while running Gemm node: shapes differ"), False),
    ],
)
def test_full_memory_is_told_from_other_errors(
    make: Callable[[Path], Runtime], folder: Path, error: Exception, full: bool
) -> None:
    assert make(folder).out_of_memory(error) is full


@pytest.mark.parametrize(
    ("make", "where", "error"),
    [
        (by_torch, "engine.models.torch_runtime.Encoder", torch.OutOfMemoryError("CUDA out of memory")),
        pytest.param(
            by_onnx,
            "engine.models.onnx_runtime.session",
            RuntimeError("Failed to allocate memory for requested buffer"),
            marks=needs_onnx,
        ),
    ],
)
def test_a_model_that_does_not_fit_the_device_is_told(
    make: Callable[[Path], Runtime], where: str, error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, full)
    with pytest.raises(DeviceError, match="cpu: too little memory for the model"):
        make(folder)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (by_torch, "engine.models.torch_runtime.Encoder"),
        pytest.param(by_onnx, "engine.models.onnx_runtime.session", marks=needs_onnx),
    ],
)
def test_any_other_error_at_loading_is_not_taken_for_full_memory(
    make: Callable[[Path], Runtime], where: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(where, broken)
    with pytest.raises(RuntimeError, match="no such operator"):
        make(folder)


@pytest.mark.parametrize("task", ["classify", "embed"])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_onnx_runtime_gives_what_torch_gives(folder: Path, task: Task, kind: str) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    save_file({name: one.to(getattr(torch, kind)) for name, one in tensors.items()}, folder / "model.safetensors")
    (folder / "sentence_bert_config.json").write_text("{}")
    batch = batch_of(LENGTHS)
    expected = by_torch(folder, task).run(batch)
    np.testing.assert_allclose(by_onnx(folder, task).run(batch), expected, atol=2e-5, rtol=0)


def test_what_a_sequence_scores_through_onnx_runtime_does_not_depend_on_its_batch(folder: Path) -> None:
    runtime, batch = by_onnx(folder), batch_of(LENGTHS)
    together = runtime.run(batch)
    for row in range(len(LENGTHS)):
        np.testing.assert_allclose(runtime.run(batch.part(row, row + 1))[0], together[row], atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("asked", "as_fast", "through"),
    [
        pytest.param("fp32", True, "OnnxRuntime", marks=needs_onnx),
        ("fp32", False, "TorchRuntime"),
        ("bf16", True, "TorchRuntime"),
        pytest.param("auto", True, "OnnxRuntime", marks=needs_onnx),
    ],
)
def test_only_fp32_runs_through_onnx_runtime(
    asked: str, as_fast: bool, through: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "cpu_precision", lambda *_: "fp32")
    monkeypatch.setattr(models, "onnx_is_as_fast", lambda *_: as_fast)
    model = models.Model(folder, task="classify", device="cpu")
    assert type(model.runtime(model.fastest(asked))).__name__ == through


def test_what_runs_is_described_for_the_doctor(runtime: Runtime) -> None:
    described = json.loads(json.dumps(runtime.describe()))
    assert (described["device"], described["precision"]) == ("cpu", "fp32")
    assert {"attention", "products", "batch_tokens"} < set(described)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60), st.integers(1, 9))
def test_sharing_out_keeps_every_sequence_in_order(lengths: list[int], cores: int) -> None:
    bounds = np.cumsum([0, *lengths]).tolist()
    parts = share_out(bounds, cores)
    assert [i for begin, end in parts for i in range(begin, end)] == list(range(len(lengths)))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.floats(0, 1))
def test_runs_pad_no_more_than_they_may(lengths: list[int], padding: float) -> None:
    bounds = np.cumsum([0, *lengths]).tolist()
    found = runs(bounds, padding)
    assert [i for begin, end in found for i in range(begin, end)] == list(range(len(lengths)))
    for begin, end in found:
        true = sum(lengths[begin:end])
        assert max(lengths[begin:end]) * (end - begin) <= true * (1 + padding) + 1e-9


def reference_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packed: PackedBounds, first: bool
) -> torch.Tensor:
    rows = []
    for i in range(len(packed)):
        whole = slice(packed.bounds[i], packed.bounds[i + 1])
        mine = q[i : i + 1] if first else q[whole]
        weights = torch.einsum("qhd,khd->hqk", mine, k[whole]).softmax(-1)
        rows.append(torch.einsum("hqk,khd->qhd", weights, v[whole]))
    return torch.cat(rows).flatten(1)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5, 5], [1], [4, 5, 4, 5]])
@pytest.mark.parametrize("attention", [BucketedAttention(0.0), BucketedAttention(0.5), ProductAttention()])
def test_every_attention_sees_its_own_sequence_alone(
    attention: BucketedAttention | ProductAttention, lengths: list[int], first: bool
) -> None:
    torch.manual_seed(2)
    packed, total = bounds_of(lengths), sum(lengths)
    k, v = torch.randn(total, 4, 8), torch.randn(total, 4, 8)
    q = torch.randn(len(lengths) if first else total, 4, 8)
    expected = reference_attention(q, k, v, packed, first)
    torch.testing.assert_close(attention(q, k, v, packed, first=first), expected, atol=1e-5, rtol=1e-4)


def test_a_long_sequence_and_an_empty_one_see_the_same_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    lengths = [7, 0, 3]
    packed = bounds_of(lengths)
    q, k, v = torch.randn(3, 10, 5, 8).unbind()
    in_blocks = ProductAttention()(q, k, v, packed)
    monkeypatch.setattr("engine.models.attention._FUSED_ABOVE", 6 * 6)
    torch.testing.assert_close(ProductAttention()(q, k, v, packed), in_blocks, atol=1e-6, rtol=1e-5)


def test_heads_that_go_one_after_the_other_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    packed = bounds_of([7, 3, 12])
    q, k, v = torch.randn(3, 22, 5, 8).unbind()
    together = ProductAttention()(q, k, v, packed)
    for scores in (12 * 12, 2 * 12 * 12):
        monkeypatch.setattr("engine.models.attention._CACHED_SCORES", scores)
        torch.testing.assert_close(ProductAttention()(q, k, v, packed), together, atol=1e-6, rtol=1e-5)


def test_attention_on_a_gpu_takes_only_kernels_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    def of_today(*_: object, scale: float | None = None) -> None: ...

    def of_old(*_: object, is_causal: bool = False) -> None: ...

    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.setattr(varlen, "varlen_attn", of_today)
    assert isinstance(choose_attention(gpu, torch.float16, 64), VarlenAttention)
    for width in (26, 264):
        assert isinstance(choose_attention(gpu, torch.float16, width), BucketedAttention)
    assert isinstance(choose_attention(gpu, torch.float32, 64), BucketedAttention)
    monkeypatch.setattr(varlen, "varlen_attn", of_old)
    assert isinstance(choose_attention(gpu, torch.float16, 64), BucketedAttention)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("task", ["classify", "embed"])
@pytest.mark.parametrize("attention", ["length buckets", "torch's kernel"])
def test_a_gpu_is_asked_nothing_while_a_batch_runs(attention: str, task: Task, kind: str, tmp_path: Path) -> None:
    """On the meta device a tensor left on the host, or a value that the host would wait for, is an error."""
    from torch.nn.attention.varlen import varlen_attn

    config = {"model_type": kind, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    config |= {"intermediate_size": 128, "max_position_embeddings": 42, "type_vocab_size": 2, "id2label": {"0": "r"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    architecture = read_architecture(tmp_path, task)
    elsewhere = torch.device("meta")
    encoder = Encoder(
        architecture,
        {name: torch.zeros(shape) for name, (_, shape) in expected_tensors(architecture, "").items()},
        device=elsewhere,
        dtype=torch.float16,
        attention=BucketedAttention(0.25)
        if attention == "length buckets"
        else VarlenAttention("varlen", partial(varlen_attn, scale=1.0)),
        make_affine=choose_affine(elsewhere, torch.float16),
    )
    tokens = torch.zeros(sum(LENGTHS), dtype=torch.int32, device=elsewhere)
    here = bounds_of(LENGTHS)
    packed = PackedBounds(here.bounds, here.starts.to(elsewhere), here.longest)
    found = encoder(tokens, tokens, tokens if kind == "bert" else None, packed)
    width = architecture.labels if task == "classify" else architecture.hidden
    assert (found.shape, found.dtype, found.device) == ((len(LENGTHS), width), torch.float32, elsewhere)


@pytest.mark.parametrize("typed", [False, True])
def test_a_batch_goes_to_a_gpu_and_back_in_one_copy_each(
    folder: Path, typed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path for CUDA, run on a CPU: copies are pinned in name only, and there is no stream to wait for."""
    runtime = by_torch(folder)
    batch = batch_of(LENGTHS)
    if typed:
        batch = PackedBatch(batch.tokens, np.zeros_like(batch.tokens), batch.starts, batch.longest)
    expected = runtime.run(batch)
    pinned: list[torch.Tensor] = []
    empty = torch.empty

    def noted(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        made = empty(*size, **options)
        if pin_memory:
            pinned.append(made)
        return made

    monkeypatch.setattr(torch, "empty", noted)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    handle = runtime._on_cuda(next(runtime._turns), batch)
    assert [len(copy) for copy in pinned] == [len(batch.starts) + (2 + typed) * len(batch.tokens), len(LENGTHS)]
    np.testing.assert_allclose(runtime.collect(handle), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "relu", "tanh"])
def test_a_packed_product_is_the_plain_one(activation: str | None) -> None:
    torch.manual_seed(3)
    weight, bias, x = torch.randn(24, 16), torch.randn(24), torch.randn(7, 16)
    plain, packed = PlainAffine(weight, bias, activation), PackedAffine(weight, bias, activation)  # type: ignore[arg-type]
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)


def test_a_residual_is_added_and_left_as_it_was() -> None:
    torch.manual_seed(4)
    weight, bias, x, residual = torch.randn(24, 16), torch.randn(24), torch.randn(7, 16), torch.randn(7, 24)
    before = residual.clone()
    for make in (PlainAffine, PackedAffine):
        torch.testing.assert_close(make(weight, bias)(x, residual), F.linear(x, weight, bias) + before)
        assert torch.equal(residual, before)


@needs_int8
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_an_8_bit_product_is_near_the_plain_one(activation: str | None) -> None:
    torch.manual_seed(6)
    weight, bias, x = torch.randn(24, 64), torch.randn(24), torch.randn(7, 64)
    x[3] = 0
    plain, quantised = PlainAffine(weight, bias, activation), QuantisedAffine(weight, bias, activation)  # type: ignore[arg-type]
    assert (quantised(x) - plain(x)).abs().max() < 0.03 * plain(x).abs().max()


def test_torch_without_packed_products_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(PackedAffine, "__init__", missing)
    assert choose_affine(CPU, torch.float32) is PlainAffine


def test_drafts_wait_until_what_was_scored_took_as_long_as_torch_takes_to_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.Model(folder, task="classify", device="cpu")
    products = 2 * 2 * 64 * (4 * 64 + 2 * 128)  # of a token, twice for sum and factor
    monkeypatch.setattr(models.devices, "cpu", lambda: SimpleNamespace(cores=2))
    monkeypatch.setattr(models, "onnx_is_as_fast", lambda *_: True)
    monkeypatch.setattr(models, "onnx_rate", lambda *_: products / 2e9)  # a token a second
    monkeypatch.setattr(models, "_TORCH_STARTS", 10)
    monkeypatch.setattr(models, "sys", SimpleNamespace(modules={}))
    assert [model.drafts_pay(tokens) for tokens in (0, 6, 4, 1)] == [False, False, False, True]
    monkeypatch.setattr(models, "sys", SimpleNamespace(modules={"torch": torch}))
    assert models.Model(folder, task="classify", device="cpu").drafts_pay(1)


def test_drafts_wait_for_nothing_where_torch_computes_fp32_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "onnx_is_as_fast", lambda *_: False)
    monkeypatch.setattr(models, "sys", SimpleNamespace(modules={}))
    assert models.Model(folder, task="classify", device="cpu").drafts_pay(1)


def test_a_graph_is_written_once_and_read_by_the_processes_after(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    expected = by_onnx(folder).run(batch_of(LENGTHS))
    (written,) = (tmp_path / "cache" / "graphs").iterdir()
    whole = written.read_bytes()
    with monkeypatch.context() as unwritten:
        unwritten.setattr("engine.models.onnx_graph.build", lambda _: pytest.fail("it is there"))
        np.testing.assert_array_equal(by_onnx(folder).run(batch_of(LENGTHS)), expected)
    for damaged in (b"", whole[:20], whole[:-1], b"x" + whole[1:], whole + b"x"):
        written.write_bytes(damaged)
        np.testing.assert_array_equal(by_onnx(folder).run(batch_of(LENGTHS)), expected)
        assert written.read_bytes() == whole
    by_onnx(folder, "embed")
    assert len(list(written.parent.iterdir())) == 2, "another task has another graph"


def test_a_cache_that_cannot_be_written_costs_only_the_graphs_writing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "file"))
    assert by_onnx(folder).run(batch_of(LENGTHS)).shape == (len(LENGTHS), 1)


def test_few_sequences_are_shared_by_onnx_runtime_and_computed_together_by_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for runtime, parts in ((by_onnx(folder), 3), (by_torch(folder), 1)):
        monkeypatch.setattr(runtime, "_cores", 8)
        handle = runtime.submit(batch_of([9, 8, 7]))
        assert len(handle.parts) == parts
        assert runtime.collect(handle).shape == (3, 1)


@needs_onnx
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_computes_with_threads_of_its_own(folder: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from engine.models.architecture import read_architecture
from engine.models.batch import PackedBatch
from engine.models.onnx_runtime import OnnxRuntime
from engine.models.weights import open_weights
folder = Path(sys.argv[1])
architecture = read_architecture(folder, "classify")
runtime = OnnxRuntime(architecture, open_weights(folder, architecture), folder)
runtime._cores = 2
batch = PackedBatch(np.arange(2, 42, dtype=np.int32), None, np.arange(0, 41, 5, dtype=np.int32), 5)
before = runtime.run(batch)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(20)
os._exit(0 if np.array_equal(runtime.run(batch), before) else 3)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder)], timeout=60).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_threads_of_both_engines_are_forgotten_in_a_forked_process() -> None:
    code = """
import os, signal
from engine.models.torch_runtime import torch_workers
from engine.models.workers import workers
for pool in (workers, torch_workers):
    pool(2).submit(int).result()
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(20)
for pool in (workers, torch_workers):
    pool(2).submit(int).result()
os._exit(0)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0

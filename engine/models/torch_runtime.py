"""Packed batches through torch: in every precision, on GPUs and on a CPU."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import DeviceError
from engine.models import device as devices
from engine.models import workers
from engine.models.architecture import Architecture
from engine.models.attention import Attention, PackedBounds, choose_attention
from engine.models.batch import PackedBatch, position_ids
from engine.models.encoder import Encoder
from engine.models.linear import choose_affine
from engine.models.runtime import CPU_BATCH_TOKENS_PER_CORE, Handle, Runtime
from engine.models.weights import StoredTensor
from engine.records import Precision

__all__ = ["DTYPES", "TorchRuntime", "attention", "load", "tensors_of", "torch_workers"]

DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_BATCH_TOKENS = 65_536
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class TorchRuntime(Runtime):
    """An encoder on one device, or copies of it on several that take batches in turn.

    Args:
        encoders: the copies.
        precision: in which their products run.
        folder: of the model, named in errors.
    """

    def __init__(self, encoders: list[Encoder], precision: str, folder: Path | None = None) -> None:
        super().__init__(encoders[0].architecture, precision, folder)
        self._encoders, self._turns = encoders, cycle(encoders)
        self.device = ",".join(str(encoder.device) for encoder in encoders)
        self.in_flight = len(encoders) + 1
        self._cores = devices.cpu().cores
        on_cpu = encoders[0].device.type == "cpu"
        self.preferred_batch_tokens = CPU_BATCH_TOKENS_PER_CORE * self._cores if on_cpu else _CUDA_BATCH_TOKENS

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device's memory is full, so that a smaller batch may pass."""
        return _is_out_of_memory(error)

    def describe(self) -> dict[str, Any]:
        """What runs, as the benchmarks print it; JSON-able."""
        return {
            "device": self.device,
            "precision": self.precision,
            "attention": self._encoders[0].attention.name,
            "products": self._encoders[0].products,
            "batch_tokens": self.preferred_batch_tokens,
        }

    def _start(self, batch: PackedBatch) -> Handle:
        encoder = next(self._turns)
        if encoder.device.type == "cuda":
            return self._on_cuda(encoder, batch)
        # Fewer parts than cores are computed by all cores together.
        parts = workers.start(batch, partial(_compute, encoder), self._cores, torch_workers, least=self._cores)
        return Handle(parts)

    def _on_cuda(self, encoder: Encoder, batch: PackedBatch) -> Handle:
        """One pinned copy in, holding all that the batch needs, and one copy out."""
        parts = [batch.starts, batch.tokens, position_ids(batch, self.architecture)]
        if batch.types is not None:
            parts.append(batch.types)
        packed = torch.empty(sum(map(len, parts)), dtype=torch.int32, pin_memory=True)
        np.concatenate(parts, out=packed.numpy())
        ends = np.cumsum([len(part) for part in parts]).tolist()
        with torch.inference_mode(), torch.cuda.device(encoder.device):
            there = packed.to(encoder.device, non_blocking=True)
            starts, tokens, positions, *types = torch.tensor_split(there, ends[:-1])
            bounds = PackedBounds(batch.starts.tolist(), starts, batch.longest)
            found = encoder(tokens, positions, types[0] if types else None, bounds)
            values = torch.empty(found.shape, dtype=torch.float32, pin_memory=True)
            values.copy_(found, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return Handle([values.numpy()], event.synchronize)


def _compute(encoder: Encoder, batch: PackedBatch) -> NDArray[np.float32]:
    """Logits or pooled states of a part of a batch, on a CPU."""
    bounds = PackedBounds(batch.starts.tolist(), torch.from_numpy(batch.starts), batch.longest)
    positions = torch.from_numpy(position_ids(batch, encoder.architecture))
    with torch.inference_mode():
        kinds = None if batch.types is None else torch.from_numpy(batch.types)
        found: NDArray[np.float32] = encoder(torch.from_numpy(batch.tokens), positions, kinds, bounds).numpy()
        return found


@workers.once_a_process
def torch_workers(cores: int) -> ThreadPoolExecutor:
    """One thread per core; torch computes single-threaded in each."""
    ready = Barrier(cores + 1)
    pool = ThreadPoolExecutor(cores, thread_name_prefix="fouille-torch")

    def alone() -> None:
        # torch initialises a thread's count on its first query, which would overwrite a value set before.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    for _ in range(cores):
        pool.submit(alone)
    ready.wait()
    # torch keeps the count per thread, and one more for threads to come: leave that one as it was.
    torch.set_num_threads(before)
    return pool


def tensors_of(stored: Mapping[str, StoredTensor]) -> dict[str, torch.Tensor]:
    """Stored tensors as torch's, of the same memory."""
    return {
        name: torch.from_numpy(tensor.data).view(torch.bfloat16)
        if tensor.kind == "BF16"
        else torch.from_numpy(tensor.data)
        for name, tensor in stored.items()
    }


def attention(architecture: Architecture, device: str, dtype: torch.dtype) -> Attention:
    """What runs over the sequences of a model on a device."""
    return choose_attention(torch.device(device), dtype, architecture.hidden // architecture.heads)


def load(
    architecture: Architecture,
    stored: Mapping[str, StoredTensor],
    *,
    device_names: list[str],
    precision: Precision,
    flowing: Precision,
    folder: Path,
) -> TorchRuntime:
    """The model ready to run on every device.

    Args:
        architecture: of the model.
        stored: its weights.
        device_names: see `engine.models.device.choose_devices`.
        precision: of the products.
        flowing: of what flows between them; another one only around 8-bit products.
        folder: of the model, named in errors.

    Raises:
        DeviceError: a device's memory does not hold it.
    """
    dtype, tensors = DTYPES[flowing], tensors_of(stored)
    try:
        encoders = [
            Encoder(
                architecture,
                tensors,
                device=device,
                dtype=dtype,
                attention=attention(architecture, name, dtype),
                make_affine=choose_affine(device, dtype, quantised=precision == "int8"),
            )
            for name in device_names
            for device in [torch.device(name)]
        ]
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        what = f"too little memory for the model in {folder.name}"
        hint = "choose a smaller model, or --device cpu"
        raise DeviceError(what, where=",".join(device_names), hint=hint) from error
    return TorchRuntime(encoders, precision, folder)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)

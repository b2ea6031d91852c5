"""From a model's folder to numbers: loads an encoder onto its device and runs packed batches through it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import InvalidOption
from engine.models import device as devices
from engine.models.architecture import Architecture, Task, read_architecture
from engine.models.attention import Layout, choose_attention
from engine.models.batch import PackedBatch
from engine.models.encoder import Encoder
from engine.models.linear import PlainAffine
from engine.models.weights import open_weights

__all__ = ["Handle", "Runtime", "load", "position_ids"]

_DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Handle(Protocol):
    """A batch under way; `collect` takes it."""


@dataclass(frozen=True, slots=True)
class _Done:
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Under:
    values: torch.Tensor
    event: torch.cuda.Event


class Runtime:
    """An encoder on one device.

    Attributes:
        architecture: of the model.
        device: where it runs, such as `cpu` or `cuda:0`.
        precision: in which its products run.
        preferred_batch_tokens: the budget of tokens at which this device runs fastest.
    """

    def __init__(self, encoder: Encoder, precision: str, *, preferred_batch_tokens: int) -> None:
        self._encoder = encoder
        self.architecture: Architecture = encoder.architecture
        self.device = str(encoder.device)
        self.precision = precision
        self.preferred_batch_tokens = preferred_batch_tokens

    def run(self, batch: PackedBatch) -> NDArray[np.float32]:
        """Logits or pooled states of a batch.

        Returns:
            float32 [n, labels] logits, or [n, hidden] pooled states that are not normalised.

        Raises:
            InvalidOption: a sequence is longer than the model has positions for.
        """
        return self.collect(self.submit(batch))

    def submit(self, batch: PackedBatch) -> Handle:
        """Start on a batch. A GPU computes it while the host goes on; a CPU, whose cores it takes, does it here."""
        if batch.longest > self.architecture.max_length:
            what = f"a sequence of {batch.longest} tokens, the model reads {self.architecture.max_length} at most"
            raise InvalidOption(what, where="--max-length", hint="lower it")
        if not len(batch):
            return _Done(np.empty((0, self.architecture.labels or self.architecture.hidden), np.float32))
        with torch.inference_mode():
            return self._on_cuda(batch) if self._encoder.device.type == "cuda" else self._on_cpu(batch)

    def collect(self, handle: Handle) -> NDArray[np.float32]:
        """Wait for a batch and take its result."""
        if isinstance(handle, _Under):
            handle.event.synchronize()
            return np.array(handle.values.numpy())
        if isinstance(handle, _Done):
            return handle.values
        raise TypeError(f"{type(handle).__name__} is no handle of this runtime")

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device's memory is full, so that a smaller batch may pass."""
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)

    def describe(self) -> dict[str, Any]:
        """What `fouille doctor` and the benchmarks show, JSON-able."""
        return {
            "device": self.device,
            "precision": self.precision,
            "attention": self._encoder.attention.name,
            "batch_tokens": self.preferred_batch_tokens,
        }

    def _on_cpu(self, batch: PackedBatch) -> _Done:
        layout = Layout(batch.starts.tolist(), torch.from_numpy(batch.starts), batch.longest)
        positions = torch.from_numpy(position_ids(batch, self.architecture))
        types = None if batch.types is None else torch.from_numpy(batch.types)
        return _Done(self._encoder(torch.from_numpy(batch.tokens), positions, types, layout).numpy())

    def _on_cuda(self, batch: PackedBatch) -> _Under:
        """One pinned copy in, holding all that the batch needs, and one copy out."""
        parts = [batch.starts, batch.tokens, position_ids(batch, self.architecture)]
        if batch.types is not None:
            parts.append(batch.types)
        packed = torch.empty(sum(map(len, parts)), dtype=torch.int32, pin_memory=True)
        np.concatenate(parts, out=packed.numpy())
        device = self._encoder.device
        with torch.cuda.device(device):
            there = packed.to(device, non_blocking=True)
            ends = np.cumsum([len(part) for part in parts]).tolist()
            starts, tokens, positions, *types = torch.tensor_split(there, ends[:-1])
            layout = Layout(batch.starts.tolist(), starts, batch.longest)
            found = self._encoder(tokens, positions, types[0] if types else None, layout)
            values = torch.empty(found.shape, dtype=torch.float32, pin_memory=True)
            values.copy_(found, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return _Under(values, event)


def position_ids(batch: PackedBatch, architecture: Architecture) -> NDArray[np.int32]:
    """The position id of every token, int32[total].

    RoBERTa's families number only tokens that are no padding, and a passage may hold the text `<pad>`.
    """
    lengths = np.diff(batch.starts)
    counts = np.arange(len(batch.tokens), dtype=np.int32)
    padding = architecture.padding
    if padding is not None and (padded := batch.tokens == padding).any():
        counted = np.concatenate(([0], np.cumsum(~padded, dtype=np.int32))).astype(np.int32)
        relative = counted[1:] - np.repeat(counted[batch.starts[:-1]], lengths) - 1
        return np.where(padded, padding, relative + architecture.position_offset).astype(np.int32)
    return counts - np.repeat(batch.starts[:-1] - np.int32(architecture.position_offset), lengths)


def load(folder: Path, *, task: Task, device: str = "auto", precision: str = "auto") -> Runtime:
    """Load the model of a folder.

    Args:
        folder: holds `config.json` and `model.safetensors`.
        task: `classify` for a cross-encoder's logits, `embed` for pooled states.
        device: see `engine.models.device.choose_devices`.
        precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto: the fastest that keeps fp32's order.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported: see `read_architecture` and `open_weights`.
        DeviceError, InvalidOption: the device or the precision cannot be had here.
    """
    architecture = read_architecture(folder, task)
    chosen = devices.choose_devices(device)[0]
    devices.check_precision(precision, chosen)
    tensors = open_weights(folder, architecture)
    precision = "fp32" if precision == "auto" else precision
    dtype = _DTYPES[precision]
    encoder = Encoder(
        architecture,
        tensors,
        device=chosen,
        dtype=dtype,
        attention=choose_attention(chosen, dtype),
        make_affine=PlainAffine,
    )
    return Runtime(encoder, precision, preferred_batch_tokens=4096 if chosen.type == "cpu" else 65536)

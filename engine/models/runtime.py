"""From a model's folder to numbers: loads an encoder onto its devices and runs packed batches through it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import DeviceError, InvalidOption, ModelDamaged
from engine.models import device as devices
from engine.models.architecture import Architecture, Task, read_architecture
from engine.models.attention import Attention, PackedBounds, choose_attention
from engine.models.batch import PackedBatch
from engine.models.encoder import Encoder
from engine.models.linear import choose_affine
from engine.models.precision import cpu_precision
from engine.models.weights import open_weights
from engine.models.workers import share_out, workers
from engine.ragged import offsets_of
from engine.records import Precision

__all__ = ["Handle", "Model", "Precisions", "Runtime", "load", "position_ids"]

_DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_BATCH_TOKENS = 65_536
_CPU_BATCH_TOKENS_PER_CORE = 8_192
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True, slots=True)
class Handle:
    """A batch under way; `Runtime.collect` takes it.

    Attributes:
        parts: what it was split into, each done or being computed.
        event: recorded on the GPU behind the copy back, None on a CPU.
    """

    parts: Sequence[Future[torch.Tensor] | torch.Tensor]
    event: torch.cuda.Event | None = None


class Runtime:
    """An encoder on one device, or copies of it on several that take batches in turn.

    Args:
        encoders: the copies.
        precision: in which their products run.
        folder: of the model, named in errors.

    Attributes:
        architecture: of the model.
        device: where it runs, such as `cpu` or `cuda:0`.
        precision: in which its products run.
        in_flight: batches to have under way at a time, so that every device computes while one more copy arrives.
        preferred_batch_tokens: the budget of tokens at which this device runs fastest.
        most_tokens: what its memory was seen to hold, None as long as it never ran out.
    """

    def __init__(self, encoders: Sequence[Encoder], precision: str, folder: Path | None = None) -> None:
        self._encoders, self._turns, self._folder = encoders, cycle(encoders), folder
        self.architecture: Architecture = encoders[0].architecture
        self.device = ",".join(str(encoder.device) for encoder in encoders)
        self.precision = precision
        self.in_flight = len(encoders) + 1
        self.most_tokens: int | None = None
        self._cores = devices.cpu().cores
        on_cpu = encoders[0].device.type == "cpu"
        self.preferred_batch_tokens = _CPU_BATCH_TOKENS_PER_CORE * self._cores if on_cpu else _CUDA_BATCH_TOKENS

    def run(self, batch: PackedBatch) -> NDArray[np.float32]:
        """Logits or pooled states of a batch.

        Returns:
            float32 [n, labels] logits, or [n, hidden] pooled states that are not normalised.

        Raises:
            InvalidOption: a sequence is longer than the model has positions for.
            ModelDamaged: the model gives numbers that are not finite.
        """
        return self.collect(self.submit(batch))

    def submit(self, batch: PackedBatch) -> Handle:
        """Start on a batch, which is computed while the caller makes the next one."""
        if batch.longest > self.architecture.max_length:
            what = f"a sequence of {batch.longest} tokens, the model reads {self.architecture.max_length} at most"
            raise InvalidOption(what, where="max_length", hint="lower it")
        if not len(batch):
            return Handle([torch.empty(0, self.architecture.labels or self.architecture.hidden)])
        encoder = next(self._turns)
        return self._on_cuda(encoder, batch) if encoder.device.type == "cuda" else self._on_cpu(encoder, batch)

    def collect(self, handle: Handle) -> NDArray[np.float32]:
        """Wait for a batch and take its result, as `run` does; Ctrl-C while waiting drops what is left of it."""
        try:
            parts = [part.result() if isinstance(part, Future) else part for part in handle.parts]
        except BaseException:
            self.drop(handle)
            raise
        if handle.event is not None:
            handle.event.synchronize()
        found: NDArray[np.float32] = torch.cat(list(parts)).numpy()
        if not np.isfinite(found).all():
            hint = "try --precision bf16" if self.precision == "fp16" else "fetch the model again"
            what = f"the model gives numbers that are not finite in {self.precision}"
            raise ModelDamaged(what, where=self._folder, hint=hint)
        return found

    def drop(self, handle: Handle) -> None:
        """Give up a batch: parts of it that have not begun never run."""
        for part in handle.parts:
            if isinstance(part, Future):
                part.cancel()

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

    def _on_cpu(self, encoder: Encoder, batch: PackedBatch) -> Handle:
        """Whole sequences shared out to the cores; a batch too small to share is computed by all cores together."""
        parts = share_out(batch.starts.tolist(), self._cores)
        if self._cores == 1 or len(parts) < self._cores:
            return Handle([_compute(encoder, batch, 0, len(batch))])
        pool = workers(self._cores)
        return Handle([pool.submit(_compute, encoder, batch, begin, end) for begin, end in parts])

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
        return Handle([values], event)


def _compute(encoder: Encoder, batch: PackedBatch, begin: int, end: int) -> torch.Tensor:
    """Logits or pooled states of the sequences from `begin` to `end`, on a CPU."""
    starts = batch.starts[begin : end + 1]
    rows = slice(int(starts[0]), int(starts[-1]))
    types = None if batch.types is None else batch.types[rows]
    part = PackedBatch(batch.tokens[rows], types, starts - starts[0], int(np.diff(starts).max()))
    positions = torch.from_numpy(position_ids(part, encoder.architecture))
    bounds = PackedBounds(part.starts.tolist(), torch.from_numpy(part.starts), part.longest)
    with torch.inference_mode():
        kinds = None if types is None else torch.from_numpy(types)
        return encoder(torch.from_numpy(part.tokens), positions, kinds, bounds)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def position_ids(batch: PackedBatch, architecture: Architecture) -> NDArray[np.int32]:
    """The position id of every token, int32[total].

    RoBERTa's families number only tokens that are no padding, and a passage may hold the text `<pad>`.
    """
    lengths = np.diff(batch.starts)
    counts = np.arange(len(batch.tokens), dtype=np.int32)
    padding = architecture.padding
    if padding is not None and (padded := batch.tokens == padding).any():
        counted = offsets_of(~padded)
        relative = counted[1:] - np.repeat(counted[batch.starts[:-1]], lengths) - 1
        return np.where(padded, padding, relative + architecture.position_offset).astype(np.int32)
    return counts - np.repeat(batch.starts[:-1] - np.int32(architecture.position_offset), lengths)


class Precisions(NamedTuple):
    """How a cross-encoder computes.

    Attributes:
        scores: the precision of its scores.
        draft: a faster one that shows which candidates deserve those, None where there is none.
    """

    scores: Precision
    draft: Precision | None


class Model:
    """A model's folder, its weights mapped once; run in as many precisions as are asked for.

    Args:
        folder: holds `config.json` and `model.safetensors`.
        task: `classify` for a cross-encoder's logits, `embed` for pooled states.
        device: see `engine.models.device.choose_devices`.

    Attributes:
        architecture: of the model.
        device: where it runs, such as `cpu` or `cuda:0`.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported: see `read_architecture` and `open_weights`.
        DeviceError, InvalidOption: the device cannot be had here.
    """

    def __init__(self, folder: Path, *, task: Task, device: str = "auto") -> None:
        self.architecture: Architecture = read_architecture(folder, task)
        self._folder = folder
        self._devices = devices.choose_devices(device)
        self.device = ",".join(map(str, self._devices))
        self._tensors = open_weights(folder, self.architecture)
        self._runtimes: dict[Precision, Runtime] = {}
        self._loading = Lock()

    def fastest(self, asked: str) -> Precision:
        """The precision asked for; for auto, the half precision where this device gains by it, else fp32.

        Raises:
            InvalidOption: the precision means nothing, or the device does not have it.
        """
        first = self._devices[0]
        devices.check_precision(asked, first)
        if asked != "auto":
            return cast(Precision, asked)
        return cpu_precision(self.architecture.hidden, self.architecture.intermediate) if self._on_cpu else "fp16"

    def precisions(self, asked: str) -> Precisions:
        """How a cross-encoder computes.

        On a CPU, auto is fp32's scores, after a draft in half precision where that is faster; on a GPU, fp16 alone.

        Raises:
            InvalidOption: see `fastest`.
        """
        fastest = self.fastest(asked)
        if asked == "auto" and self._on_cpu and fastest != "fp32":
            return Precisions("fp32", fastest)
        return Precisions(fastest, None)

    def runtime(self, precision: Precision) -> Runtime:
        """The model ready to run in a precision that `fastest` or `precisions` named; made once, by any thread.

        Raises:
            DeviceError: the device's memory does not hold it.
        """
        with self._loading:
            if precision not in self._runtimes:
                self._runtimes[precision] = self._load(precision)
            return self._runtimes[precision]

    def attention(self, precision: Precision) -> str:
        """What will run over the sequences in a precision, for people."""
        return self._attention(self._devices[0], precision).name

    @property
    def _on_cpu(self) -> bool:
        return self._devices[0].type == "cpu"

    def _attention(self, device: torch.device, precision: Precision) -> Attention:
        return choose_attention(device, self._dtype(precision), self.architecture.hidden // self.architecture.heads)

    def _dtype(self, precision: Precision) -> torch.dtype:
        """The type of what flows between the products; around 8-bit ones, what the CPU's auto means."""
        return _DTYPES[self.fastest("auto") if precision == "int8" else precision]

    def _load(self, precision: Precision) -> Runtime:
        dtype = self._dtype(precision)
        try:
            encoders = [
                Encoder(
                    self.architecture,
                    self._tensors,
                    device=device,
                    dtype=dtype,
                    attention=self._attention(device, precision),
                    make_affine=choose_affine(device, dtype, quantised=precision == "int8"),
                )
                for device in self._devices
            ]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            what = f"too little memory for the model in {self._folder.name}"
            raise DeviceError(what, where=self.device, hint="choose a smaller model, or --device cpu") from error
        return Runtime(encoders, precision, self._folder)


def load(folder: Path, *, task: Task, device: str = "auto", precision: str = "auto") -> Runtime:
    """Load the model of a folder in one precision: fp32, bf16, fp16 (GPU), int8 (CPU), or auto, the fastest.

    Raises:
        ModelNotFound, ModelDamaged, ModelUnsupported, DeviceError, InvalidOption: see `Model`.
    """
    model = Model(folder, task=task, device=device)
    return model.runtime(model.fastest(precision))

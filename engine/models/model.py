"""From a model's folder to what runs it: its weights mapped once, in as many precisions as are asked for."""

import sys
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

from engine.models import device as devices
from engine.models.architecture import Architecture, Task, read_architecture
from engine.models.precision import cpu_precision, onnx_is_as_fast, onnx_rate
from engine.models.runtime import Runtime
from engine.models.weights import open_weights
from engine.records import Precision

__all__ = ["Model", "Precisions"]

_TORCH_STARTS = 1.2
"""Seconds that importing torch takes, measured on two machines."""


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

    fp32 on a CPU runs through ONNX Runtime, unless torch was measured to be faster; all else through torch.

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
        self.device = ",".join(self._devices)
        self._tensors = open_weights(folder, self.architecture)
        self._runtimes: dict[Precision, Runtime] = {}
        self._loading = Lock()
        self._scored = 0

    def fastest(self, asked: str) -> Precision:
        """The precision asked for; for auto, the half precision where this device gains by it, else fp32.

        Raises:
            InvalidOption: the precision means nothing, or the device does not have it.
        """
        devices.check_precision(asked, self._devices[0])
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
        if self._by_onnx(precision):
            return "ONNX Runtime's"
        from engine.models import torch_runtime

        dtype = torch_runtime.DTYPES[self._flowing(precision)]
        return torch_runtime.attention(self.architecture, self._devices[0], dtype).name

    def drafts_pay(self, tokens: int) -> bool:
        """Whether drafts save time by now, for a model whose `precisions` name one.

        They wait for torch's import. Until what has been scored, with what is asked now, would take as long without
        them, fp32 through ONNX Runtime is the sooner done: of a cold search that is most often all there is.

        Args:
            tokens: of what is to be scored now.
        """
        if "torch" in sys.modules or not self._by_onnx("fp32"):
            return True
        shape = self.architecture
        weights = shape.layers * shape.hidden * (4 * shape.hidden + 2 * shape.intermediate)
        rate = 1e9 * onnx_rate(shape.hidden, shape.intermediate) * devices.cpu().cores
        with self._loading:
            self._scored += tokens
            return 2 * weights * self._scored / rate > _TORCH_STARTS

    @property
    def _on_cpu(self) -> bool:
        return self._devices == ["cpu"]

    def _by_onnx(self, precision: Precision) -> bool:
        shape = self.architecture
        return precision == "fp32" and self._on_cpu and onnx_is_as_fast(shape.hidden, shape.intermediate)

    def _flowing(self, precision: Precision) -> Precision:
        """The type of what flows between the products; around 8-bit ones, what the CPU's auto means."""
        return self.fastest("auto") if precision == "int8" else precision

    def _load(self, precision: Precision) -> Runtime:
        if self._by_onnx(precision):
            from engine.models.onnx_runtime import OnnxRuntime

            return OnnxRuntime(self.architecture, self._tensors, self._folder)
        from engine.models import torch_runtime

        return torch_runtime.load(
            self.architecture,
            self._tensors,
            device_names=self._devices,
            precision=precision,
            flowing=self._flowing(precision),
            folder=self._folder,
        )

"""The affine maps of the encoder, in the forms that a device runs fastest."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from engine.models.architecture import Activation

__all__ = ["ACTIVATIONS", "Affine", "MakeAffine", "PackedAffine", "PlainAffine", "choose_affine"]

ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "tanh": torch.tanh,
}
_FUSED: dict[Activation | None, tuple[str, str]] = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "tanh": ("tanh", ""),
}


class Affine(Protocol):
    """`activation(x W' + b)`, or `x W' + b + residual`."""

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """[rows, in] (and a residual [rows, out]) -> [rows, out]."""
        ...


MakeAffine = Callable[[torch.Tensor, torch.Tensor, Activation | None], Affine]
"""From a weight [out, in], a bias [out] and what follows the product."""


class PlainAffine:
    """torch's own linear layer: right on every device, and the form that the others are held against."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None) -> None:
        self._weight, self._bias = weight, bias
        self._activation = ACTIVATIONS[activation] if activation else None

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """See `Affine`."""
        y = F.linear(x, self._weight, self._bias)
        if self._activation is not None:
            y = self._activation(y)
        return y if residual is None else y.add_(residual)


class PackedAffine:
    """oneDNN's product on a CPU: the weight laid out for it once, activation and residual sum fused into it.

    The operators are those that torch's own compiler emits for CPUs; `choose_affine` sees whether this torch has them.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None) -> None:
        self._weight: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias
        self._fused, self._variant = _FUSED[activation]

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """See `Affine`."""
        product: Any = torch.ops.mkldnn._linear_pointwise
        y: torch.Tensor
        if residual is not None:
            y = product.binary(x, residual, self._weight, self._bias, "add")
        else:
            y = product(x, self._weight, self._bias, self._fused, [], self._variant)
        return y


def choose_affine(device: torch.device, dtype: torch.dtype) -> MakeAffine:
    """The fastest form of the products that this device and this torch have."""
    if device.type != "cpu":
        return PlainAffine
    try:
        one = torch.ones(1, 1, dtype=dtype)
        PackedAffine(one, one[0])(one, one)
    except (AttributeError, RuntimeError):
        return PlainAffine
    return PackedAffine

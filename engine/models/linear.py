"""The affine maps of the encoder, in the forms that a device runs fastest."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from engine.models.architecture import Activation

__all__ = ["ACTIVATIONS", "Affine", "MakeAffine", "PackedAffine", "PlainAffine", "QuantisedAffine", "choose_affine"]

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


_TINY = 1e-12
"""Stands in for the largest value of a row of zeros."""


class Affine(Protocol):
    """`activation(x W' + b)`, or `x W' + b + residual`."""

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """[rows, in] (and a residual [rows, out]) -> [rows, out]."""
        ...


MakeAffine = Callable[[torch.Tensor, torch.Tensor, Activation | None], Affine]
"""From a weight [out, in], a bias [out] and what follows the product."""


class PlainAffine:
    """torch's own linear layer: correct on every device, and the reference for the other forms."""

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


class QuantisedAffine:
    """Products of 8-bit integers on a CPU: each row of x and each row of the weight scaled by its own largest value.

    A row's scale depends on nothing but the row, so that what a sequence scores does not depend on its batch.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None) -> None:
        self._bias = bias.float()
        self._activation = ACTIVATIONS[activation] if activation else None
        self._scales = weight.float().abs().amax(1).clamp_(min=_TINY).div_(127)
        integers = (weight / self._scales[:, None]).round_().to(torch.int8)
        self._weight: torch.Tensor = torch.ops.onednn.qlinear_prepack(integers, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """See `Affine`."""
        wide = x.float()
        largest = torch.maximum(wide.amax(1, keepdim=True), wide.amin(1, keepdim=True).neg_()).clamp_(min=_TINY)
        # Signed, rounded to nearest, then the sign bit turned: unsigned around 128.
        integers = (wide * (127 / largest)).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            integers, 1.0, 128, self._weight, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y.mul_(largest / 127).add_(self._bias)
        if self._activation is not None:
            y = self._activation(y)
        y = y.to(x.dtype)
        return y if residual is None else y.add_(residual)


def choose_affine(device: torch.device, dtype: torch.dtype, *, quantised: bool = False) -> MakeAffine:
    """The fastest form of the products that this device and this torch have.

    Args:
        device: where the encoder runs.
        dtype: of its activations.
        quantised: whether products are of 8-bit integers.
    """
    if device.type != "cpu":
        return PlainAffine
    if quantised:
        return QuantisedAffine
    try:
        one = torch.ones(1, 1, dtype=dtype)
        PackedAffine(one, one[0])(one, one)
    except (AttributeError, RuntimeError):
        return PlainAffine
    return PackedAffine

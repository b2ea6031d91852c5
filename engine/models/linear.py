"""The affine maps of the encoder, in the forms that a device runs fastest."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch.nn import functional as F

from engine.models.architecture import Activation

__all__ = ["ACTIVATIONS", "Affine", "PlainAffine"]

ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "tanh": torch.tanh,
}


class Affine(Protocol):
    """`activation(x W' + b)`, or `x W' + b + residual`."""

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """[rows, in] (and a residual [rows, out]) -> [rows, out]."""
        ...


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

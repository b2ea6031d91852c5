"""The lean encoder: one module for the whole BERT family, over packed tokens.

What the families share is written once; what sets them apart (names, position offset, head, embedding width) is data
in `Architecture`. Products run in the precision asked for; embeddings, the pooled state, the head and its logits are
fp32, as are the sums inside layer normalisation and softmax.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from engine.models.architecture import Activation, Architecture
from engine.models.attention import Attention, PackedBounds
from engine.models.linear import ACTIVATIONS, Affine, MakeAffine

__all__ = ["Encoder"]


@dataclass(frozen=True, slots=True)
class _Norm:
    """Layer normalisation (Ba et al. 2016)."""

    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer layer, normalised after each residual sum (Vaswani et al. 2017, figure 1).

    `inputs` makes query, key and value in one product. Where only first tokens are read, `inputs` makes key and value
    of every token, and `query` asks for the first tokens alone.
    """

    query: Affine | None
    inputs: Affine
    output: Affine
    attention_norm: _Norm
    up: Affine
    down: Affine
    output_norm: _Norm
    heads: int

    def __call__(self, x: torch.Tensor, packed: PackedBounds, attention: Attention) -> torch.Tensor:
        rows, width = x.shape
        each = width // self.heads
        if self.query is None:
            query, key, value = self.inputs(x).view(rows, 3, self.heads, each).unbind(1)
            seen = attention(query, key, value, packed)
        else:
            key, value = self.inputs(x).view(rows, 2, self.heads, each).unbind(1)
            x = x.index_select(0, packed.starts[:-1])
            query = self.query(x).view(-1, self.heads, each)
            seen = attention(query, key, value, packed, first=True)
        x = self.attention_norm(self.output(seen, x))
        return self.output_norm(self.down(self.up(x), x))


class Encoder:
    """An encoder of the BERT family with its head or its pooling.

    Args:
        architecture: of the model.
        tensors: its weights, by the names of `engine.models.weights`, as stored.
        device: where to compute.
        dtype: of weights and activations inside the layers.
        attention: over the packed batch.
        make_affine: the form of the layers' products on this device.
    """

    def __init__(
        self,
        architecture: Architecture,
        tensors: Mapping[str, torch.Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        attention: Attention,
        make_affine: MakeAffine,
    ) -> None:
        self.architecture, self.device, self.dtype, self.attention = architecture, device, dtype, attention
        self._make, self.products = make_affine, getattr(make_affine, "__name__", "")
        # Tables stay as they are stored: on a CPU they are mapped files, of which only the rows looked up are read.
        self._words = tensors["words"].to(device)
        self._positions = tensors["positions"].to(device)
        self._types = tensors["types"].to(device, torch.float32) if "types" in tensors else None
        self._norm = self._layer_norm(tensors, "norm", torch.float32)
        self._projection = self._affine(tensors, ["projection"]) if "projection.weight" in tensors else None
        self._reads_first = architecture.head is not None or architecture.pooling == "first"
        self._layers = [self._layer(tensors, index) for index in range(architecture.layers)]
        self._head = [
            (
                tensors[f"head.{part}.weight"].to(device, torch.float32),
                tensors[f"head.{part}.bias"].to(device, torch.float32),
            )
            for part in (("dense", "output") if architecture.head else ())
        ]

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, types: torch.Tensor | None, packed: PackedBounds
    ) -> torch.Tensor:
        """Logits or pooled states of a packed batch.

        Args:
            tokens: int32[total].
            positions: int32[total], position ids.
            types: int32[total], None when all are zero.
            packed: where the sequences of the batch lie.

        Returns:
            fp32 [n, labels] logits, or [n, hidden] pooled states, not normalised.
        """
        x = self._embed(tokens, positions, types)
        for layer in self._layers:
            x = layer(x, packed, self.attention)
        x = x.float()
        if not self._reads_first:
            # "unsafe" leaves out checks of the lengths, which would make the host wait for the device at every batch.
            x = torch.segment_reduce(x, "mean", lengths=packed.lengths.long(), axis=0, unsafe=True)
        if head := self.architecture.head:
            dense, output = self._head
            x = F.linear(ACTIVATIONS[head.activation](F.linear(x, *dense)), *output)
        return x

    def _embed(self, tokens: torch.Tensor, positions: torch.Tensor, types: torch.Tensor | None) -> torch.Tensor:
        x = F.embedding(tokens, self._words).float().add_(F.embedding(positions, self._positions))
        if self._types is not None:
            x.add_(self._types[0] if types is None else F.embedding(types, self._types))
        x = self._norm(x).to(self.dtype)
        return x if self._projection is None else self._projection(x)

    def _layer(self, tensors: Mapping[str, torch.Tensor], index: int) -> _Layer:
        at = f"layers.{index}."
        split = self._reads_first and index == self.architecture.layers - 1
        return _Layer(
            query=self._affine(tensors, [at + "query"]) if split else None,
            inputs=self._affine(tensors, [at + part for part in ("query", "key", "value")[split:]]),
            output=self._affine(tensors, [at + "output"]),
            attention_norm=self._layer_norm(tensors, at + "attention_norm"),
            up=self._affine(tensors, [at + "up"], self.architecture.activation),
            down=self._affine(tensors, [at + "down"]),
            output_norm=self._layer_norm(tensors, at + "output_norm"),
            heads=self.architecture.heads,
        )

    def _affine(
        self, tensors: Mapping[str, torch.Tensor], names: list[str], activation: Activation | None = None
    ) -> Affine:
        """One product for several maps of the same input, their outputs side by side."""
        weight, bias = (
            torch.cat([self._scaled(tensors, f"{name}.{part}") for name in names]) for part in ("weight", "bias")
        )
        return self._make(weight.to(self.device, self.dtype), bias.to(self.device, self.dtype), activation)

    def _scaled(self, tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """A tensor, the query's already divided by the root of the heads' width, which attention then need not do."""
        if ".query." not in name:
            return tensors[name]
        return tensors[name].float() / math.sqrt(self.architecture.hidden // self.architecture.heads)

    def _layer_norm(self, tensors: Mapping[str, torch.Tensor], name: str, dtype: torch.dtype | None = None) -> _Norm:
        if dtype is None:
            # CUDA's kernel wants its weights in the input's type and sums in fp32 all the same; the CPU's takes fp32.
            dtype = self.dtype if self.device.type == "cuda" else torch.float32
        weight, bias = (tensors[f"{name}.{part}"].to(self.device, dtype) for part in ("weight", "bias"))
        return _Norm(weight, bias, self.architecture.epsilon)

"""The encoder as an ONNX graph: what `engine.models.encoder` computes, for sequences of one length at a time.

Its products, attention, layer normalisation and activations are one operator each, ONNX's own or those that ONNX
Runtime adds (domain `com.microsoft`). Weights are named in the graph and given when a session is made.
"""

from collections.abc import Mapping
from typing import Any

from onnx import NodeProto, TensorProto, helper

from engine.models.architecture import Activation, Architecture
from engine.models.onnx_runtime import EMBEDDED, FOUND, SHAPE

__all__ = ["build", "build_product"]

_OPSET, _IR = 20, 9
_ADDED = "com.microsoft"
_FLAT, _FIRST, _ALONE, _MIDDLE = "flat", "first", "alone", "middle"

_OPERATORS: Mapping[Activation, tuple[str, Mapping[str, str]]] = {
    "gelu": ("Gelu", {"approximate": "none"}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
}


def build(architecture: Architecture) -> bytes:
    """The graph of a model, serialised; it names its weights as `expected_tensors` does."""
    shape, graph = architecture, _Graph(architecture.hidden)
    x = graph.normalised(EMBEDDED, "norm", shape.embedding, shape.epsilon)
    if shape.embedding != shape.hidden:
        x = graph.affine(x, "projection", shape.hidden, shape.embedding)
    reads_first = shape.head is not None or shape.pooling == "first"
    for index in range(shape.layers):
        x = _layer(graph, shape, x, f"layers.{index}.", first=reads_first and index == shape.layers - 1)
    if not reads_first:
        x = graph.node("ReduceMean", graph.node("Reshape", x, SHAPE), _MIDDLE, keepdims=0)
    if head := shape.head:
        x = graph.activated(graph.affine(x, "head.dense", shape.hidden, shape.hidden), head.activation)
        x = graph.affine(x, "head.output", shape.labels, shape.hidden)
    return graph.written(shape.embedding, x, shape.labels or shape.hidden)


def build_product(width: int, out: int) -> bytes:
    """The graph of a single product, `product`, to be measured; float[rows, width] in, float[rows, out] out."""
    graph = _Graph(width)
    return graph.written(width, graph.affine(EMBEDDED, "product", out, width), out)


def _layer(graph: "_Graph", shape: Architecture, x: str, at: str, *, first: bool) -> str:
    """One transformer layer; where only first tokens are read after it, of those alone."""
    hidden, inner = shape.hidden, shape.intermediate
    every, asking = x, SHAPE
    if first:
        x, asking = graph.node("Gather", graph.node("Reshape", x, SHAPE), _FIRST, axis=1), _ALONE
    query, key, value = (
        graph.node("Reshape", graph.affine(source, at + part, hidden, hidden), into)
        for source, part, into in ((x, "query", asking), (every, "key", SHAPE), (every, "value", SHAPE))
    )
    seen = graph.node("MultiHeadAttention", query, key, value, domain=_ADDED, num_heads=shape.heads)
    seen = graph.affine(graph.node("Reshape", seen, _FLAT), at + "output", hidden, hidden)
    x = graph.residual(seen, x, at + "attention_norm", hidden, shape.epsilon)
    inside = graph.activated(graph.affine(x, at + "up", inner, hidden), shape.activation)
    return graph.residual(
        graph.affine(inside, at + "down", hidden, inner), x, at + "output_norm", hidden, shape.epsilon
    )


class _Graph:
    """A graph under way; each value is named after the operator that makes it."""

    def __init__(self, hidden: int) -> None:
        self._nodes: list[NodeProto] = []
        self._constants = [
            helper.make_tensor(_FLAT, TensorProto.INT64, [2], [-1, hidden]),
            helper.make_tensor(_ALONE, TensorProto.INT64, [3], [-1, 1, hidden]),
            helper.make_tensor(_FIRST, TensorProto.INT64, [], [0]),
            helper.make_tensor(_MIDDLE, TensorProto.INT64, [1], [1]),
        ]

    def node(self, operator: str, *inputs: str, domain: str = "", **options: Any) -> str:
        """Adds an operator and names what it gives."""
        output = f"{operator} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **options))
        return output

    def affine(self, x: str, name: str, out: int, width: int) -> str:
        """X W' + b."""
        weight, bias = self._weight(f"{name}.weight", out, width), self._weight(f"{name}.bias", out)
        return self.node("Gemm", x, weight, bias, transB=1)

    def activated(self, x: str, activation: Activation) -> str:
        """What lies between two products."""
        operator, how = _OPERATORS[activation]
        return self.node(operator, x, **how)

    def normalised(self, x: str, name: str, width: int, epsilon: float) -> str:
        """Layer normalisation."""
        weight, bias = (self._weight(f"{name}.{part}", width) for part in ("weight", "bias"))
        return self.node("LayerNormalization", x, weight, bias, epsilon=epsilon)

    def residual(self, x: str, onto: str, norm: str, width: int, epsilon: float) -> str:
        """The sum of two, normalised; SkipLayerNormalization, ONNX Runtime's operator for both, is slower by far."""
        return self.normalised(self.node("Add", x, onto), norm, width, epsilon)

    def written(self, width: int, found: str, out: int) -> bytes:
        """The model of what takes float[rows, width] and gives float[n, out]."""
        self._nodes.append(helper.make_node("Identity", [found], [FOUND]))
        inputs = [
            helper.make_tensor_value_info(EMBEDDED, TensorProto.FLOAT, ["rows", width]),
            helper.make_tensor_value_info(SHAPE, TensorProto.INT64, [3]),
        ]
        outputs = [helper.make_tensor_value_info(FOUND, TensorProto.FLOAT, ["n", out])]
        graph = helper.make_graph(self._nodes, "encoder", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_ADDED, 1)]
        written: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()
        return written

    def _weight(self, name: str, *shape: int) -> str:
        """Declares a weight, whose numbers are said to lie elsewhere."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="given to the session")
        self._constants.append(tensor)
        return name

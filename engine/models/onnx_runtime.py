"""Packed batches through ONNX Runtime: fp32 on a CPU, at torch's speed and without its second of start-up.

Each run takes sequences of one length, most often a single one: nothing is padded, and what a sequence scores does not
depend on its batch. Runs are single-threaded; the cores take them in parallel.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import DeviceError
from engine.models import device as devices
from engine.models import workers
from engine.models.architecture import Architecture
from engine.models.batch import PackedBatch, position_ids
from engine.models.runtime import CPU_BATCH_TOKENS_PER_CORE, Handle, Runtime
from engine.models.weights import StoredTensor
from engine.remembered import write_atomically
from engine.settings import cache_dir

__all__ = ["EMBEDDED", "FOUND", "SHAPE", "OnnxRuntime", "session"]

EMBEDDED, SHAPE, FOUND = "embedded", "shape", "found"
"""What a graph takes: float[n * length, width], sums of the embedding tables' rows; int64[3], n, length and hidden.
What it gives: float[n, labels] or [n, hidden]."""

_TABLES = frozenset({"words", "positions", "types"})
"""Weights that are looked up outside the graph."""
_DIGEST = 32
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
_ERRORS_ALONE = 3


class OnnxRuntime(Runtime):
    """The encoder of a model, in fp32 on the CPU.

    Args:
        architecture: of the model.
        stored: its weights.
        folder: of the model, named in errors.

    Raises:
        DeviceError: the memory does not hold it.
    """

    device = "cpu"
    in_flight = 2

    def __init__(self, architecture: Architecture, stored: Mapping[str, StoredTensor], folder: Path) -> None:
        super().__init__(architecture, "fp32", folder)
        self._cores = devices.cpu().cores
        self.preferred_batch_tokens = CPU_BATCH_TOKENS_PER_CORE * self._cores
        # Tables stay as they are stored, mapped files of which only the rows looked up are read.
        self._words, self._positions = stored["words"], stored["positions"].floats()
        self._types = stored["types"].floats() if "types" in stored else None
        try:
            weights = {name: tensor.floats() for name, tensor in stored.items() if name not in _TABLES}
            self._session = session(_graph(architecture), weights)
        except (RuntimeError, MemoryError) as error:
            if not self.out_of_memory(error):
                raise
            what = f"too little memory for the model in {folder.name}"
            raise DeviceError(what, where=self.device, hint="choose a smaller model") from error

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the memory is full, so that a smaller batch may pass."""
        return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)

    def describe(self) -> dict[str, Any]:
        """What runs, as the benchmarks print it; JSON-able."""
        return {
            "device": self.device,
            "precision": self.precision,
            "attention": "ONNX Runtime",
            "products": f"ONNX Runtime {onnxruntime.__version__}",
            "batch_tokens": self.preferred_batch_tokens,
        }

    def _start(self, batch: PackedBatch) -> Handle:
        return Handle(workers.start(batch, self._compute, self._cores, workers.workers))

    def _compute(self, batch: PackedBatch) -> NDArray[np.float32]:
        """Logits or pooled states of a part of a batch."""
        embedded = self._embed(batch)
        lengths = np.diff(batch.starts)
        edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(batch)]
        found = []
        for begin, end in pairwise(edges):
            rows = embedded[batch.starts[begin] : batch.starts[end]]
            shape = np.array([end - begin, lengths[begin], self.architecture.hidden], np.int64)
            given = {EMBEDDED: rows, SHAPE: shape}
            found += self._session.run([FOUND], given)
        return np.concatenate(found)

    def _embed(self, batch: PackedBatch) -> NDArray[np.float32]:
        """The sums of the tables' rows, float32[total, width]."""
        x = self._words.floats(batch.tokens) + self._positions[position_ids(batch, self.architecture)]
        if self._types is not None:
            x += self._types[0] if batch.types is None else self._types[batch.types]
        return x


def _graph(architecture: Architecture) -> bytes:
    """A model's graph, kept in the cache folder: what writes it takes as long to load as the rest of this runtime."""
    writer = Path(__file__).with_name("onnx_graph.py").read_bytes()
    key = hashlib.sha256(writer + repr(architecture).encode()).hexdigest()
    place = cache_dir() / "graphs" / f"{key[:32]}.onnx"
    try:
        content = place.read_bytes()
    except OSError:
        content = b""
    graph, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(graph).digest() != digest:
        from engine.models import onnx_graph

        graph = onnx_graph.build(architecture)
        with suppress(OSError):  # the next process writes it again
            write_atomically(place, graph + hashlib.sha256(graph).digest())
    return graph


def session(graph: bytes, weights: Mapping[str, NDArray[np.float32]]) -> onnxruntime.InferenceSession:
    """A graph ready to run in one thread of the caller's, many times at once.

    Args:
        graph: a serialised ONNX model whose weights are given apart.
        weights: name -> float32 of the declared shape.
    """
    onnxruntime.disable_telemetry_events()  # what Windows builds would send
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ALONE
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it is for runs of always the same lengths
    # The graph is written as ONNX Runtime's own rewriting would leave it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weight)) for weight in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

"""Compiled rivals at their best: a cross-encoder in OpenVINO or ONNX Runtime, fed length-sorted batches by hand."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models import device as devices
from tests.benchmarks.measure import Scores

__all__ = ["onnx", "openvino"]

_BATCH = 32

Pairs = Sequence[tuple[str, str]]
Ids = NDArray[np.int64]


def openvino(folder: Path, pairs: Pairs) -> Callable[[], Scores]:
    """OpenVINO in bf16."""
    import openvino

    model, example = _logits_of(folder)
    free = openvino.PartialShape([-1, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(model, example_input=example, input=[free, free])
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    return _length_sorted(folder, pairs, lambda ids, mask: compiled([ids, mask])[0])


def onnx(folder: Path, pairs: Pairs, *, quantised: bool = False) -> Callable[[], Scores]:
    """ONNX Runtime in fp32, or with weights and activations of 8 bits."""
    import onnxruntime

    model, example = _logits_of(folder)
    sizes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=2, max=512)}
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(temporary, "model.onnx")
        torch.onnx.export(
            model,
            example,
            path,
            dynamo=True,
            input_names=["ids", "mask"],
            output_names=["logits"],
            dynamic_shapes=(sizes, sizes),
            verbose=False,
        )
        if quantised:
            from onnx import load
            from onnxruntime.quantization import quantize_dynamic

            plain, path = load(path), Path(temporary, "int8.onnx")
            plain.graph.ClearField("value_info")  # the exporter's shapes, which the quantiser takes for contradictions
            quantize_dynamic(plain, path, extra_options={"DefaultTensorType": 1})
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = devices.cpu().cores
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return _length_sorted(folder, pairs, lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0])


def _logits_of(folder: Path) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """transformers' model as a function of ids and mask alone, and arguments to trace it with."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
            return logits

    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 9:] = 0
    return Logits(), (torch.full((2, 16), 5), mask)


def _length_sorted(folder: Path, pairs: Pairs, run: Callable[[Ids, Ids], NDArray[Any]]) -> Callable[[], Scores]:
    """A function that tokenises the pairs, runs them longest first and gives their logits."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.no_padding()

    def score() -> Scores:
        found = [encoding.ids for encoding in tokenizer.encode_batch(list(pairs))]
        order = sorted(range(len(found)), key=lambda i: -len(found[i]))
        logits = np.empty(len(found), np.float32)
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            ids = np.ones((len(rows), len(found[rows[0]])), np.int64)
            mask = np.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : len(found[row])], mask[i, : len(found[row])] = found[row], 1
            logits[rows] = run(ids, mask)[:, 0]
        return logits

    return score

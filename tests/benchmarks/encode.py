"""Encoding passages with a bi-encoder: strings in, vectors out, beside sentence-transformers.

python -m tests.benchmarks.encode --shape me5-small
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.models.architecture import read_architecture
from engine.models.biencoder import BiEncoder
from tests.benchmarks import measure, shapes


def main() -> None:
    flags = measure.parser(__doc__ or "", "me5-small")
    flags.add_argument("--passages", type=int, default=200)
    flags.add_argument("--words", type=int, default=100)
    flags.add_argument("--precision", default="bf16,fp32", help="of ours, several with commas")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = shapes.model_folder(asked.model or asked.shape, "embed", asked.folder or Path(temporary))
        device = measure.chosen_device(asked.device)
        texts = shapes.passages_of(asked.words, asked.passages)
        contestants: dict[str, Callable[[], Any]] = {}
        missing: list[str] = []
        prompt = ""
        for precision in asked.precision.split(","):
            ours = BiEncoder(folder, str(device), precision)
            prompt = ours.prompts.passage
            contestants[f"fouille {precision}"] = partial(ours.encode_passages, texts)
        prompted = [prompt + text for text in texts]
        for name, load in rivals(folder, device, prompted).items():
            if (rival := measure.try_rival(name, load, missing)) is not None:
                contestants[name] = rival
        seconds = measure.shortest(list(contestants.values()), asked.repeats)
        ceiling = measure.matrix_rate(device)
        shape = read_architecture(folder, "embed")
        lengths = text_lengths(folder, prompted)
        work = measure.flops(lengths, shape.layers, shape.hidden, shape.intermediate)
        base = dict(zip(contestants, seconds, strict=True)).get("sentence-transformers, defaults")
        exact = BiEncoder(folder, str(device), "fp32").encode_passages(texts)
        rows = [
            {
                "contestant": name,
                "passages/s": len(texts) / took,
                "tokens/s": sum(lengths) / took,
                "times ST": base / took if base else None,
                "of bf16 ceiling": work / took / 1e12 / ceiling["bf16"],
                "lowest cosine to fp32": float((exact * np.asarray(contestant(), np.float32)).sum(1).min()),
            }
            for (name, contestant), took in zip(contestants.items(), seconds, strict=True)
        ]
        facts = measure.machine(device) | {
            "model": asked.model or asked.shape,
            "tokens a passage": float(np.mean(lengths)),
            "ceiling TFLOP/s": {name: round(rate, 3) for name, rate in ceiling.items()},
            "not run": missing or "nothing",
        }
        measure.report(f"Encoding {len(texts)} passages", facts, rows, asked.json)


def text_lengths(folder: Path, texts: list[str]) -> list[int]:
    """True tokens of each text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return [len(found.ids) for found in tokenizer.encode_batch(texts)]


def rivals(folder: Path, device: torch.device, texts: list[str]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """How each rival is loaded; what loading returns encodes the texts."""

    def sentence_transformers(batch_size: int = 32, **options: Any) -> Callable[[], Any]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device=str(device), **options)
        return lambda: model.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)

    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    batch = 128 if device.type == "cuda" else 16
    found: dict[str, Callable[[], Callable[[], Any]]] = {
        "sentence-transformers, defaults": lambda: sentence_transformers(model_kwargs={"dtype": torch.float32}),
        "sentence-transformers, half, best batch": lambda: sentence_transformers(batch, model_kwargs={"dtype": half}),
    }
    if device.type == "cpu":
        found["sentence-transformers, onnx"] = lambda: sentence_transformers(backend="onnx")
        found["sentence-transformers, openvino"] = lambda: sentence_transformers(backend="openvino")
    return found


if __name__ == "__main__":
    main()

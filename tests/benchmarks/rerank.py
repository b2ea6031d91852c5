"""Reranking: strings in, scores out, beside what else there is.

    python -m tests.benchmarks.rerank --shape l6
    python -m tests.benchmarks.rerank --shape xlmr-base --device cuda --words 90 --candidates 2000

Every contestant scores the same pairs in the same process, in turns. `of ceiling` counts every layer in full over the
true tokens, as if nothing were padded or saved.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from engine.models.architecture import read_architecture
from engine.models.crossencoder import CrossEncoder, TopScores
from engine.models.model import Model
from engine.records import Precision, Ragged
from tests.benchmarks import compiled, measure, shapes
from tests.benchmarks.measure import Scores


def main() -> None:
    flags = measure.parser(__doc__ or "", "l6")
    flags.add_argument("--candidates", type=int, default=100)
    flags.add_argument("--words", type=int, default=112, help="of a passage; 112 make pairs of about 177 tokens")
    flags.add_argument("-k", type=int, default=10, help="hits that must be exact in the default precision")
    flags.add_argument("--precision", default="auto,bf16,fp32", help="of ours, several with commas; auto: the default")
    flags.add_argument("--only-ours", action="store_true")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = shapes.model_folder(asked.model or asked.shape, "classify", asked.folder or Path(temporary))
        device = measure.chosen_device(asked.device)
        question, texts = shapes.questions()[0], shapes.passages_of(asked.words, asked.candidates)
        exact = CrossEncoder(folder, str(device), "fp32")
        reference = exact.score(question, texts, activation="none")
        contestants: dict[str, Callable[[], Any]] = {}
        missing: list[str] = []
        precisions = asked.precision.split(",")
        models = [CrossEncoder(folder, str(device), precision) for precision in precisions]
        for precision, ours in zip(precisions, models, strict=True):
            own_name = f"fouille default, first {asked.k}" if precision == "auto" else f"fouille {precision}"
            contestants[own_name] = partial(score, ours, question, texts, asked.k)
            stored = partial(score_stored, ours, question, ours.tokenize_passages(texts), asked.k)
            contestants[f"{own_name}, stored tokens"] = stored
        if not asked.only_ours:
            pairs = [(question, text) for text in texts]
            for name, load in rivals(folder, device, pairs).items():
                if (rival := measure.try_rival(name, load, missing)) is not None:
                    contestants[name] = rival
        lengths = pair_lengths(folder, question, texts)
        seconds = measure.shortest(list(contestants.values()), asked.repeats)
        ceiling = measure.matrix_rate(device)
        shape = read_architecture(folder, "classify")
        work = measure.flops(lengths, shape.layers, shape.hidden, shape.intermediate)
        slowest = dict(zip(contestants, seconds, strict=True)).get("sentence-transformers, defaults")
        rows_out = []
        for (name, contestant), took in zip(contestants.items(), seconds, strict=True):
            kind = "fp32" if "fp32" in name or "defaults" in name else "bf16"
            logits = np.asarray(contestant(), np.float32).reshape(-1)
            rows_out.append(
                {
                    "contestant": name,
                    "pairs/s": len(texts) / took,
                    "tokens/s": sum(lengths) / took,
                    "ms": took * 1e3,
                    "times ST": slowest / took if slowest else None,
                    "of bf16 ceiling": work / took / 1e12 / ceiling["bf16"],
                    "of own ceiling": work / took / 1e12 / ceiling[kind],
                }
                | measure.agreement(reference, logits)
                | {"max in top 10": first_difference(reference, logits)}
            )
        facts = measure.machine(device) | {
            "model": asked.model or asked.shape,
            "tokens a pair": float(np.mean(lengths)),
            "spread of logits": float(reference.std()),
            "ceiling TFLOP/s": {name: round(rate, 3) for name, rate in ceiling.items()},
            "ours": [
                Model(folder, task="classify", device=str(device)).runtime(cast("Precision", used)).describe()
                for used in sorted({used for ours in models for used in (ours.precision, ours.draft_precision) if used})
            ],
            "again in fp32": [
                int((~top_scores(ours, question, ours.tokenize_passages(texts), asked.k).drafted).sum())
                for ours in models
                if ours.draft_precision
            ],
            "not run": missing or "nothing",
        }
        measure.report(f"Reranking {len(texts)} candidates", facts, rows_out, asked.json)


def score(ours: CrossEncoder, question: str, texts: list[str], k: int) -> Scores:
    """Logits of all, as a search that shows k has them: strings in."""
    return score_stored(ours, question, ours.tokenize_passages(texts), k)


def score_stored(ours: CrossEncoder, question: str, stored: Ragged, k: int) -> Scores:
    """The same from stored tokens: in the default precision the first k are exact, in any other all are alike."""
    return top_scores(ours, question, stored, k).logits


def top_scores(ours: CrossEncoder, question: str, stored: Ragged, k: int) -> TopScores:
    """One question with every passage."""
    passages = np.arange(len(stored.offsets) - 1)
    return ours.score_top([question], stored, np.stack([np.zeros_like(passages), passages], axis=1), k)


def first_difference(reference: Scores, logits: Scores) -> float:
    """Largest difference from the reference among the ten that the contestant puts first."""
    first = np.argsort(-logits, kind="stable")[:10]
    return float(np.abs(reference - logits)[first].max())


def pair_lengths(folder: Path, question: str, texts: list[str]) -> list[int]:
    """True tokens of each pair."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return [len(found.ids) for found in tokenizer.encode_batch([(question, text) for text in texts])]


def rivals(
    folder: Path, device: torch.device, pairs: list[tuple[str, str]]
) -> dict[str, Callable[[], Callable[[], Any]]]:
    """How each rival is loaded; what loading returns scores the pairs and gives logits."""

    def sentence_transformers(best: bool = False, **options: Any) -> Callable[[], Any]:
        from sentence_transformers import CrossEncoder as Rival

        model = Rival(str(folder), device=str(device), activation_fn=torch.nn.Identity(), **options)
        batch = {"batch_size": 128 if device.type == "cuda" else 16} if best else {}
        return lambda: model.predict(pairs, show_progress_bar=False, **batch)

    def flag() -> Callable[[], Any]:
        from FlagEmbedding import FlagReranker

        model = FlagReranker(str(folder), use_fp16=device.type == "cuda", devices=[str(device)])
        return lambda: model.compute_score(pairs)

    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    found: dict[str, Callable[[], Callable[[], Any]]] = {
        "sentence-transformers, defaults": lambda: sentence_transformers(model_kwargs={"dtype": torch.float32}),
        "sentence-transformers, half, best batch": lambda: sentence_transformers(True, model_kwargs={"dtype": half}),
        "FlagReranker": flag,
    }
    if device.type == "cpu":
        found["sentence-transformers, onnx"] = lambda: sentence_transformers(backend="onnx")
        found["sentence-transformers, openvino"] = lambda: sentence_transformers(backend="openvino")
        found["OpenVINO itself, bf16, length-sorted"] = lambda: compiled.openvino(folder, pairs)
        found["ONNX Runtime itself, fp32, length-sorted"] = lambda: compiled.onnx(folder, pairs)
        found["ONNX Runtime itself, int8, length-sorted"] = lambda: compiled.onnx(folder, pairs, quantised=True)
    return found


if __name__ == "__main__":
    main()

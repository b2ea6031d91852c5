"""What the benchmarks share: timing rivals in turns, the ceiling of this device, one table, one JSON file."""

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models import device as devices

Scores = NDArray[np.float32]


def parser(description: str, shape: str) -> argparse.ArgumentParser:
    """The flags that every benchmark takes."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--shape", default=shape, help="a shape of tests/benchmarks/shapes.py or a model's folder")
    flags.add_argument("--model", help="a model's folder; the same as --shape FOLDER")
    flags.add_argument("--device", default="auto")
    flags.add_argument("--repeats", type=int, default=5, help="runs of each contestant; the shortest counts")
    flags.add_argument("--folder", type=Path, help="where random models are kept; a temporary folder by default")
    flags.add_argument("--json", type=Path, metavar="FILE")
    return flags


def chosen_device(asked: str) -> torch.device:
    """The first of the devices that `--device` means."""
    return torch.device(devices.choose_devices(asked)[0])


def matrix_rate(device: torch.device) -> dict[str, float]:
    """Products per second that this device reaches on the encoder's own operator, TFLOP/s by precision."""
    from engine.models.linear import choose_affine

    size = (2048, 768, 3072) if device.type == "cpu" else (16384, 4096, 4096)
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rows, width, out = size
        weight = torch.randn(out, width).to(device, dtype)
        product = choose_affine(device, dtype)(weight, weight[:, 0].contiguous(), None)
        x = torch.randn(rows, width).to(device, dtype)

        def once(product: Any = product, x: torch.Tensor = x) -> None:
            product(x)
            if device.type == "cuda":
                torch.cuda.synchronize()

        with torch.inference_mode():
            found[name] = 2 * rows * width * out / shortest([once], 12)[0] / 1e12
    return found


def shortest(contestants: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each contestant's shortest run, after one to warm up; they take turns, so that noise meets all."""
    best = [float("inf")] * len(contestants)
    for turn in range(repeats + 1):
        for i, contestant in enumerate(contestants):
            start = time.perf_counter()
            contestant()
            if turn:
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def flops(lengths: Sequence[int], layers: int, hidden: int, intermediate: int) -> float:
    """Products and sums of an encoder over sequences of these lengths, every layer counted in full."""
    n = np.asarray(lengths, dtype=np.float64)
    return float(layers * (n * (8 * hidden**2 + 4 * hidden * intermediate) + 4 * n**2 * hidden).sum())


def agreement(reference: Scores, scores: Scores) -> dict[str, Any]:
    """Largest difference from the reference, and whether the first ten are the same, in order and as a set."""
    first, other = (np.argsort(-x, kind="stable")[:10] for x in (reference, scores))
    return {
        "max_difference": float(np.abs(reference - scores).max()),
        "top10_order": bool((first == other).all()),
        "top10_set": set(first.tolist()) == set(other.tolist()),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Where the figures were taken."""
    cpu = devices.cpu()
    found: dict[str, Any] = {
        "cpu": cpu.name,
        "cores": cpu.cores,
        "torch": torch.__version__,
        "system": platform.system(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def report(title: str, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Print one table; write it and the facts as JSON when a path is given."""
    print(title)
    for name, value in facts.items():
        print(f"  {name}: {value}")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if path is not None:
        path.write_text(json.dumps({"title": title, "facts": dict(facts), "rows": list(rows)}, indent=2), "utf-8")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def try_rival(name: str, load: Callable[[], Callable[[], Any]], missing: list[str]) -> Callable[[], Any] | None:
    """A rival that runs here, else None and a line that says why not."""
    try:
        rival = load()
        rival()
    except Exception as error:  # noqa: BLE001 - whatever keeps a rival from running, the others are still measured
        gc.collect()
        missing.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:100]}")
        return None
    return rival

"""How a CPU computes fastest, by a short measurement that is remembered in the cache folder.

The forms measured are a product of the model's feed-forward part in torch, in fp32 and where the processor multiplies
it in bf16, and in ONNX Runtime, in fp32.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec

import numpy as np

from engine.models.device import cpu, torch_version
from engine.records import Precision
from engine.remembered import recall, remember

__all__ = ["cpu_precision", "onnx_is_as_fast", "onnx_rate"]

_REMEMBERED = "cpu-products.json"
_GAIN = 1.2
"""What bf16 must be faster by, whose rounding would else buy nothing; and torch, whose import takes a second."""
_ROWS, _REPEATS = 256, 40
_TORCH, _TORCH_HALF, _ONNX = "torch fp32", "torch bf16", "onnxruntime fp32"

_LEAST = 384, 1536
"""Narrower products measure the call, not the product; all of them count as this one."""

Product = Callable[[], object]

_of_this_process: dict[str, Mapping[str, float]] = {}
"""What was measured or recalled here: the file is read once, and need not be writable."""


def cpu_precision(hidden: int, intermediate: int) -> Precision:
    """bf16 where the CPU multiplies it in hardware and is measured to gain by it, fp32 otherwise.

    Args:
        hidden: width of the model.
        intermediate: width of its feed-forward part.
    """
    if not cpu().has_bf16_products:
        return "fp32"
    rates = _rates(hidden, intermediate)
    exact = max(rates[_TORCH], rates.get(_ONNX, 0.0))
    return "bf16" if rates[_TORCH_HALF] >= _GAIN * exact else "fp32"


def onnx_is_as_fast(hidden: int, intermediate: int) -> bool:
    """Whether ONNX Runtime is here and fp32 loses nothing by it; arguments as for `cpu_precision`.

    Where nothing can be remembered nothing is measured for this: every process would import torch for it.
    """
    if not _onnx_version():
        return False
    if _known(hidden, intermediate) is None and not remember(_REMEMBERED, recall(_REMEMBERED)):
        return True
    rates = _rates(hidden, intermediate)
    return rates[_TORCH] < _GAIN * rates[_ONNX]


def onnx_rate(hidden: int, intermediate: int) -> float:
    """GFLOP/s of one core through ONNX Runtime, which is here; arguments as for `cpu_precision`."""
    return _rates(hidden, intermediate)[_ONNX]


def _rates(hidden: int, intermediate: int) -> Mapping[str, float]:
    """GFLOP/s of every form that this machine has."""
    rates = _known(hidden, intermediate)
    if rates is None:
        key = _key(hidden, intermediate)
        rates = _of_this_process[key] = _measured(_forms(), *_wide(hidden, intermediate))
        remember(_REMEMBERED, recall(_REMEMBERED) | {key: rates})
    return rates


def _known(hidden: int, intermediate: int) -> Mapping[str, float] | None:
    """What was measured before, None where it was not, or of other forms."""
    key = _key(hidden, intermediate)
    if key not in _of_this_process:
        rates = recall(_REMEMBERED).get(key)
        if not isinstance(rates, dict) or not all(isinstance(rates.get(form), int | float) for form in _forms()):
            return None
        _of_this_process[key] = rates
    return _of_this_process[key]


def _forms() -> list[str]:
    return [_TORCH, *([_TORCH_HALF] if cpu().has_bf16_products else []), *([_ONNX] if _onnx_version() else [])]


def _key(hidden: int, intermediate: int) -> str:
    hidden, intermediate = _wide(hidden, intermediate)
    return f"{cpu().name}, torch {torch_version()}, onnxruntime {_onnx_version()}, {hidden}x{intermediate}"


def _wide(hidden: int, intermediate: int) -> tuple[int, int]:
    return max(hidden, _LEAST[0]), max(intermediate, _LEAST[1])


@cache
def _onnx_version() -> str | None:
    """The version of ONNX Runtime where both it and what writes its graphs are installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__) if find_spec("onnx") else None


def _measured(forms: list[str], hidden: int, intermediate: int) -> dict[str, float]:
    """The rate of each form in its shortest time.

    On one core and in its own processor time, the forms in turns. On a busy machine most repeats hit cold caches; the
    minimum of a few would be luck, and would be remembered.
    """
    from engine.models.torch_runtime import torch_workers

    def measure() -> list[float]:
        products = [_FORMS[form](hidden, intermediate) for form in forms]
        best = [float("inf")] * len(products)
        for _ in range(_REPEATS):
            for which, product in enumerate(products):
                start = time.thread_time()
                product()
                best[which] = min(best[which], time.thread_time() - start)
        return best

    work = 2e-9 * _ROWS * hidden * intermediate
    best = torch_workers(cpu().cores).submit(measure).result()
    return {form: round(work / seconds, 1) for form, seconds in zip(forms, best, strict=True)}


def _torch_product(hidden: int, intermediate: int, *, half: bool) -> Product:
    import torch

    from engine.models.linear import choose_affine

    dtype = torch.bfloat16 if half else torch.float32
    weight = torch.ones(intermediate, hidden, dtype=dtype)
    x = torch.ones(_ROWS, hidden, dtype=dtype)
    product = choose_affine(torch.device("cpu"), dtype)(weight, weight[:, 0].contiguous(), None)

    def run() -> object:
        with torch.inference_mode():
            return product(x)

    return run


def _onnx_product(hidden: int, intermediate: int) -> Product:
    from engine.models import onnx_graph, onnx_runtime

    weights = {
        "product.weight": np.ones((intermediate, hidden), np.float32),
        "product.bias": np.ones(intermediate, np.float32),
    }
    session = onnx_runtime.session(onnx_graph.build_product(hidden, intermediate), weights)
    given = {onnx_runtime.EMBEDDED: np.ones((_ROWS, hidden), np.float32), onnx_runtime.SHAPE: np.zeros(3, np.int64)}
    return lambda: session.run([onnx_runtime.FOUND], given)


_FORMS: Mapping[str, Callable[[int, int], Product]] = {
    _TORCH: partial(_torch_product, half=False),
    _TORCH_HALF: partial(_torch_product, half=True),
    _ONNX: _onnx_product,
}

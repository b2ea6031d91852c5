"""What runs packed batches: one encoder in one precision, through torch or ONNX Runtime."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidOption, ModelDamaged
from engine.models.architecture import Architecture
from engine.models.batch import PackedBatch

__all__ = ["CPU_BATCH_TOKENS_PER_CORE", "Handle", "Runtime"]

CPU_BATCH_TOKENS_PER_CORE = 8_192
"""A batch of a CPU: long enough to sort sequences by length, short enough to stop soon."""

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Handle:
    """A batch under way; `Runtime.collect` takes it.

    Attributes:
        parts: what it was split into, each done or being computed.
        wait: returns once the parts that are done can be read, None where they can at once.
    """

    parts: Sequence[Future[Values] | Values]
    wait: Callable[[], object] | None = None


class Runtime(ABC):
    """An encoder that takes packed batches.

    Args:
        architecture: of the model.
        precision: in which its products run.
        folder: of the model, named in errors.

    Attributes:
        architecture: of the model.
        precision: in which its products run.
        device: where it runs, such as `cpu` or `cuda:0`.
        in_flight: batches to have under way at a time, so that every device computes while one more copy arrives.
        preferred_batch_tokens: the budget of tokens at which this device runs fastest.
        most_tokens: what its memory was seen to hold, None as long as it never ran out.
    """

    device: str
    in_flight: int
    preferred_batch_tokens: int

    def __init__(self, architecture: Architecture, precision: str, folder: Path | None = None) -> None:
        self.architecture, self.precision, self._folder = architecture, precision, folder
        self.most_tokens: int | None = None

    def run(self, batch: PackedBatch) -> Values:
        """Logits or pooled states of a batch.

        Returns:
            float32 [n, labels] logits, or [n, hidden] pooled states that are not normalised.

        Raises:
            InvalidOption: a sequence is longer than the model has positions for.
            ModelDamaged: the model gives numbers that are not finite.
        """
        return self.collect(self.submit(batch))

    def submit(self, batch: PackedBatch) -> Handle:
        """Start on a batch, which is computed while the caller makes the next one."""
        if batch.longest > self.architecture.max_length:
            what = f"a sequence of {batch.longest} tokens, the model reads {self.architecture.max_length} at most"
            raise InvalidOption(what, where="max_length", hint="lower it")
        if not len(batch):
            return Handle([np.empty((0, self.architecture.labels or self.architecture.hidden), np.float32)])
        return self._start(batch)

    def collect(self, handle: Handle) -> Values:
        """Wait for a batch and take its result, as `run` does; Ctrl-C while waiting drops what is left of it."""
        try:
            parts = [part.result() if isinstance(part, Future) else part for part in handle.parts]
        except BaseException:
            self.drop(handle)
            raise
        if handle.wait is not None:
            handle.wait()
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            hint = "try --precision bf16" if self.precision == "fp16" else "fetch the model again"
            what = f"the model gives numbers that are not finite in {self.precision}"
            raise ModelDamaged(what, where=self._folder, hint=hint)
        return found

    def drop(self, handle: Handle) -> None:
        """Give up a batch: parts of it that have not begun never run."""
        for part in handle.parts:
            if isinstance(part, Future):
                part.cancel()

    @abstractmethod
    def _start(self, batch: PackedBatch) -> Handle:
        """Start on a batch of at least one sequence, none too long."""

    @abstractmethod
    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device's memory is full, so that a smaller batch may pass."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What runs, as the benchmarks print it; JSON-able."""

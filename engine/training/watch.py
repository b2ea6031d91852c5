"""What happens between the trainer's steps: progress shown, Ctrl-C turned into a checkpoint, the last step measured."""

import signal
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from engine.records import Progress
from engine.training import processes

__all__ = ["Log", "Watch"]

Log = Callable[[Mapping[str, float]], None]
"""Called with what was logged: `step`, and `loss` or figures on dev questions by their names."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports steps and figures; a first Ctrl-C saves and stops at the end of the step, a second one stops at once.

    Attributes:
        interrupted: whether Ctrl-C was pressed, in any process.
        first_step: the one that the training went on from, 0 where it began.
    """

    def __init__(self, progress: Progress | None, log: Log | None) -> None:
        self.interrupted, self.first_step = False, 0
        self._progress, self._log = progress, log
        self._before: Any = None

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Take Ctrl-C over; only the main thread can, which alone receives it."""
        try:
            self._before = signal.signal(signal.SIGINT, self._stop)
        except ValueError:
            self._before = None
        self.first_step = state.global_step
        self._report(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report; measure the last step too, wherever the others fall."""
        self._report(state)
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_evaluate or args.eval_strategy != "no"
        self._end_if_interrupted(control)

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """A Ctrl-C during an evaluation ends the step that was evaluated."""
        if state.global_step:
            self._end_if_interrupted(control)

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Pass on what was logged."""
        if self._log and state.is_world_process_zero and logs:
            self._log({**logs, "step": state.global_step})

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Give Ctrl-C back."""
        self.give_back()

    def give_back(self) -> None:
        """Ctrl-C does again what it did before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _report(self, state: Any) -> None:
        if self._progress and state.is_world_process_zero:
            self._progress("training", state.global_step, state.max_steps)

    def _end_if_interrupted(self, control: Any) -> None:
        # Ctrl-C reaches each process at a moment of its own; one that stopped alone would leave the others waiting.
        self.interrupted = processes.on_any(self.interrupted)
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def _stop(self, *_: Any) -> None:
        self.interrupted = True
        self.give_back()

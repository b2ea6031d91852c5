"""One training from start to end: arguments, checkpoints, evaluation, interruption; the trainer does the rest."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import TrainingError
from engine.training import cross_encoder
from engine.training.examples import Group
from engine.training.recipes import Recipe

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["TrainReport", "train_cross_encoder"]

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did.

    Attributes:
        folder: of the model.
        steps: of the optimiser.
        examples: rows seen.
        seconds: wall time.
        history: what was logged: step, loss, learning rate, figures.
        interrupted: whether it stopped early, with a checkpoint to go on from.
    """

    folder: Path
    steps: int
    examples: int
    seconds: float
    history: tuple[dict[str, float], ...]
    interrupted: bool = False


def train_cross_encoder(
    recipe: Recipe,
    groups: Sequence[Group],
    output: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | None = None,
) -> TrainReport:
    """Fine-tunes a cross-encoder and writes it in sentence-transformers' folder layout.

    Args:
        recipe: how.
        groups: what it learns from.
        output: folder of the model; checkpoints lie in its `checkpoints`.
        device: auto, cpu, cuda.
        resume: go on from the last checkpoint.
        progress: called with ("training", step, steps).
    """
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from transformers import set_seed

    folder = Path(output)
    set_seed(recipe.seed)
    model = cross_encoder.build(recipe, _device(device))
    rows = cross_encoder.dataset(groups, recipe)
    arguments = CrossEncoderTrainingArguments(
        **_arguments(recipe, folder, model, device),
        learning_rate_mapping=cross_encoder.learning_rates(model.model, recipe),
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        loss=cross_encoder.loss(model, recipe),
        callbacks=[_watch(progress)],
    )
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=resume or None)
    model.save_pretrained(str(folder), create_model_card=False)
    history = tuple(entry for entry in trainer.state.log_history)
    return TrainReport(folder, trainer.state.global_step, len(rows), time.monotonic() - started, history)


def _arguments(recipe: Recipe, folder: Path, model: "CrossEncoder", device: str) -> dict[str, Any]:
    half = _half(recipe, model.device.type)
    length = {"max_steps": recipe.steps} if recipe.steps is not None else {"num_train_epochs": 1}
    return {
        **length,
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": int(recipe.warmup) if recipe.warmup >= 1 else recipe.warmup,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
        "bf16": half == "bf16",
        "fp16": half == "fp16",
        "use_cpu": model.device.type == "cpu",
        "logging_steps": 20,
        "save_strategy": "steps",
        "save_steps": recipe.evaluate_every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": model.device.type == "cuda",
    }


def _half(recipe: Recipe, device: str) -> str:
    """The precision of the products; weights and optimiser stay in fp32."""
    import torch

    if recipe.precision != "auto":
        return recipe.precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    from engine.models.device import cpu

    return "bf16" if cpu().has_bf16_products else "fp32"


def _device(asked: str) -> str:
    from engine.models.device import choose_devices

    return str(choose_devices(asked)[0])


def _watch(progress: Progress | None) -> Any:
    """A callback that reports steps and turns Ctrl-C into a checkpoint and an orderly end."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        stopping = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.before = signal.signal(signal.SIGINT, self._stop)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if progress:
                progress("training", state.global_step, state.max_steps)
            if self.stopping:
                control.should_save = control.should_training_stop = True

        def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            signal.signal(signal.SIGINT, self.before)

        def _stop(self, *_: Any) -> None:
            self.stopping = True

    return Watch()

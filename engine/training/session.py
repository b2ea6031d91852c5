"""One training from start to end: rows, arguments, checkpoints, evaluation, interruption; the trainer does the rest."""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DeviceError, StorageError, TrainingError
from engine.models.architecture import read_json
from engine.records import Progress
from engine.training import base, bi_encoder, cross_encoder, processes
from engine.training.card import SHARED, write_card, write_curve
from engine.training.dev import MEASURES, DevSet
from engine.training.draws import Draws, spooled
from engine.training.examples import Group, record_of
from engine.training.quiet import quiet
from engine.training.recipes import Recipe
from engine.training.sources import Origin
from engine.training.spool import Spool

if TYPE_CHECKING:
    from engine.training.watch import Log, Watch

__all__ = ["TrainReport", "has_checkpoint", "is_free", "train"]

CHECKPOINTS = "checkpoints"
_BEGUN = "recipe.json"
_DIGEST = "sha256 of the groups"


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did.

    Attributes:
        folder: of the model.
        steps: of the optimiser.
        examples: rows seen.
        seconds: wall time, of this session's steps where it went on from a checkpoint.
        history: what was logged: step, loss, learning rate, figures.
        interrupted: whether it stopped early, with a checkpoint to go on from.
        kept_step: the step whose weights were kept, the last one where there were no dev questions.
        first_step: the one that this session went on from, 0 where it began.
        counts: what the data held, by name.
    """

    folder: Path
    steps: int
    examples: int
    seconds: float
    history: tuple[dict[str, float], ...]
    interrupted: bool = False
    kept_step: int = 0
    first_step: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


def train(
    recipe: Recipe,
    groups: Iterable[Group],
    output: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | None = None,
    dev: DevSet | None = None,
    log: "Log | None" = None,
    origin: Origin | None = None,
) -> TrainReport:
    """Fine-tunes a model of the recipe's kind.

    All data is read and checked before training begins, and waits on disk. The folder gets the model (safetensors), its
    card and its learning curve; checkpoints lie in its `checkpoints` until the training is whole.

    Args:
        recipe: how.
        groups: what it learns from, read once.
        output: folder of the model.
        device: auto, cpu or cuda; several GPUs through torchrun or accelerate.
        resume: go on from the last checkpoint, with the recipe, the data and the teacher that it was made by.
        progress: called with ("reading", groups, None) and ("training", step, steps).
        dev: dev questions to measure every `evaluate_every` steps; the best checkpoint is kept.
        log: called with each loss and figure, by the first process alone.
        origin: what made the groups, for the card, and to go on with the same.

    Raises:
        TrainingError: data that cannot be learnt from, a base that is no encoder, no checkpoint to go on from, or one
            of another recipe or other data.
        DependencyMissing: the extra `train` is not installed.
    """
    base.check_libraries()
    folder, origin, digest = Path(output), origin or Origin(), hashlib.sha256()
    made_by = {**recipe.numbers(), "teacher": origin.teacher, "held_out": origin.held_out}
    with quiet():
        base.check_base(recipe)
        _ready(folder, made_by, resume=resume)
        # A teacher's scores may differ in their last digits from one machine to another: its name stands for them.
        measured_on = {question.question for question in dev.questions} if dev is not None else set()
        shared: Counter[bool] = Counter()
        read = _counted(groups, progress, digest, scored=origin.teacher is None)
        spool = spooled(_watched(read, measured_on, shared), Spool())
        rows = Draws(spool, recipe, processes.count())
        _begin(folder, {**made_by, _DIGEST: digest.hexdigest()}, resume=resume)
        counts = {
            "groups": len(spool),
            SHARED: shared[True],
            "groups that the loss cannot use": rows.unused,
            "positives that a pass leaves out, where it draws one of each group": rows.undrawn,
            "examples in a pass": rows.size,
        }
        trainer, watch = _trainer(recipe, rows, folder, device, dev, progress, log, resume=resume)
        started = time.monotonic()
        try:
            trainer.train(resume_from_checkpoint=str(_last_checkpoint(folder)) if resume else None)
        finally:
            watch.give_back()
        report = _report(folder, recipe, counts, trainer, watch, time.monotonic() - started)
        trainer.accelerator.wait_for_everyone()  # the others may still write to, or read from, the last checkpoint
        if not report.interrupted and processes.is_first():
            _write(trainer.model, recipe, report, origin)
    return report


def _report(
    folder: Path, recipe: Recipe, counts: Mapping[str, int], trainer: Any, watch: "Watch", seconds: float
) -> TrainReport:
    state, best = trainer.state, trainer.state.best_model_checkpoint
    return TrainReport(
        folder=folder,
        steps=state.global_step,
        examples=state.global_step * recipe.batch * recipe.accumulate * trainer.args.world_size,
        seconds=seconds,
        history=tuple(state.log_history),
        interrupted=watch.interrupted,
        kept_step=int(best.rpartition("-")[2]) if best else state.global_step,
        first_step=watch.first_step,
        counts={what: count for what, count in counts.items() if count},
    )


def has_checkpoint(folder: Path) -> bool:
    """Whether a training can go on there."""
    return _last_checkpoint(folder) is not None


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest one that is whole: a trainer writes its state last, so one that was cut short has none."""
    found = (path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if path.name.partition("-")[2].isdecimal())
    newest_first = sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    return next((path for path in newest_first if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        for weights in checkpoint.glob("*.safetensors"):
            with safe_open(weights, "pt"):  # the header is checked against the file's size
                pass
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_bytes()), dict)
    except (OSError, ValueError, SafetensorError):
        return False


def is_free(folder: Path) -> bool:
    """Whether a training may begin there: what one left that came to no checkpoint does not count."""
    if not folder.exists():
        return True
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {CHECKPOINTS} and not has_checkpoint(folder)


def _ready(folder: Path, made_by: Mapping[str, Any], *, resume: bool) -> None:
    """Makes the folder, or checks that it has a checkpoint of the same recipe; called before any data is read."""
    if resume:
        if not has_checkpoint(folder):
            raise TrainingError("there is no checkpoint to go on from", where=folder, hint="start without --resume")
        begun = _begun(folder)
        other = [f"{name} {begun.get(name)} / {value}" for name, value in made_by.items() if begun.get(name) != value]
        if other:
            raise TrainingError(f"was begun with another recipe: {', '.join(other)}", where=folder)
    elif processes.is_first():
        try:
            (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror or error}", where=folder) from error


def _begin(folder: Path, made_by: Mapping[str, Any], *, resume: bool) -> None:
    """Writes down what the checkpoints are made by, or checks that it is the same; called once all data is read."""
    if resume:
        if _begun(folder).get(_DIGEST) != made_by[_DIGEST]:
            raise TrainingError("was begun with other data", where=folder, hint="start anew in another folder")
    elif processes.is_first():
        try:
            content = json.dumps(made_by, ensure_ascii=False, indent=1)
            (folder / CHECKPOINTS / _BEGUN).write_text(content, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror or error}", where=folder) from error


def _begun(folder: Path) -> dict[str, Any]:
    return read_json(folder / CHECKPOINTS / _BEGUN) or {}


def _counted(
    groups: Iterable[Group], progress: Progress | None, digest: "hashlib._Hash", *, scored: bool
) -> Iterable[Group]:
    for number, group in enumerate(groups, 1):
        if progress and not number % 100:
            progress("reading", number, None)
        record = record_of(group if scored else replace(group, scores=None))
        digest.update(json.dumps(record).encode())
        yield group


def _watched(groups: Iterable[Group], measured_on: Collection[str], shared: Counter[bool]) -> Iterable[Group]:
    """The groups as they come, counting those whose question is also measured on."""
    for group in groups:
        shared[group.question in measured_on] += 1
        yield group


def _trainer(
    recipe: Recipe,
    rows: Draws,
    folder: Path,
    device: str,
    dev: DevSet | None,
    progress: Progress | None,
    log: "Log | None",
    *,
    resume: bool,
) -> "tuple[Any, Watch]":
    from transformers import EarlyStoppingCallback, PrinterCallback, set_seed

    from engine.training import trainers
    from engine.training.watch import Watch

    chosen = _device(device)
    set_seed(recipe.seed)
    watch = Watch(progress, log)
    callbacks: list[Any] = [watch]
    if dev is not None and recipe.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=recipe.patience))
    common = {"train_dataset": rows, "callbacks": callbacks}
    trainer: Any
    if recipe.kind == "cross-encoder":
        model: Any = cross_encoder.build(recipe, chosen)
        half = _half(recipe, chosen, model.model.config)
        arguments = _arguments(recipe, folder, chosen, half, measured=dev is not None, resume=resume)
        arguments["learning_rate_mapping"] = base.learning_rates(model.model, recipe)
        evaluator = trainers.CrossEncoderOnDev(dev) if dev else None
        trainer = trainers.CrossEncoderTraining(
            model=model,
            args=trainers.cross_encoder_arguments(arguments),
            loss=cross_encoder.loss(model, recipe),
            evaluator=evaluator,
            **common,
        )
    else:
        model = bi_encoder.build(recipe, chosen)
        half = _half(recipe, chosen, model[0].auto_model.config)
        arguments = _arguments(recipe, folder, chosen, half, measured=dev is not None, resume=resume)
        arguments["learning_rate_mapping"] = base.learning_rates(model[0].auto_model, recipe)
        arguments["prompts"] = bi_encoder.prompts_of_columns(model, rows.column_names)
        evaluator = trainers.BiEncoderOnDev(dev) if dev else None
        trainer = trainers.BiEncoderTraining(
            model=model,
            args=trainers.bi_encoder_arguments(arguments),
            loss=bi_encoder.loss(model, recipe),
            evaluator=evaluator,
            **common,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer, watch


def _arguments(recipe: Recipe, folder: Path, device: str, half: str, *, measured: bool, resume: bool) -> dict[str, Any]:
    length = {"max_steps": recipe.steps} if recipe.steps is not None else {"num_train_epochs": 1}  # passes are rows
    best = {
        "eval_strategy": "steps",
        "eval_steps": recipe.evaluate_every,
        "eval_on_start": not resume,  # it would count against the patience
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{MEASURES[0]}",
        "greater_is_better": True,
    }
    return {
        **length,
        **(best if measured else {}),
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": int(recipe.warmup) if recipe.warmup >= 1 else recipe.warmup,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
        "bf16": half == "bf16",
        "fp16": half == "fp16",
        "use_cpu": device == "cpu",
        "logging_steps": max(1, min(20, recipe.evaluate_every // 5)),
        "save_strategy": "steps",
        "save_steps": recipe.evaluate_every,
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device != "cpu",
        # Among processes: a bi-encoder's pooling layer may go unused. A cross-encoder uses all its weights, and torch,
        # told to look for others in what its forward returns (no plain dict), finds no tensor there and takes every
        # weight for unused. Nor may a forward exchange buffers: a listwise loss has as many as its batch has blocks.
        "ddp_find_unused_parameters": recipe.kind == "bi-encoder",
        "ddp_broadcast_buffers": False,
    }


def _half(recipe: Recipe, device: str, config: Any) -> str:
    """The precision of the products of a model of this transformers config; weights and optimiser stay in fp32."""
    import torch

    if recipe.precision != "auto":
        return recipe.precision
    if device != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    from engine.models.precision import cpu_precision

    return cpu_precision(config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size))


def _device(asked: str) -> str:
    """The kind of device; which GPU of several is torchrun's to say."""
    from engine.models.device import choose_devices

    kind, _, index = choose_devices(asked)[0].partition(":")
    if asked not in ("auto", "cuda") and index not in ("", "0"):
        raise DeviceError(
            "a training takes the first GPU that it sees", where="--device", hint="set CUDA_VISIBLE_DEVICES"
        )
    return kind


def _write(model: Any, recipe: Recipe, report: TrainReport, origin: Origin) -> None:
    """The model, its card and its curve; then the checkpoints, which hold more than a model's folder may, go."""
    try:
        model.save_pretrained(str(report.folder), create_model_card=False)
        write_card(
            report.folder,
            replace(recipe, max_length=model.max_seq_length),
            report.history,
            origin,
            counts=report.counts,
            kept_step=report.kept_step,
            first_step=report.first_step,
            seconds=report.seconds,
        )
        write_curve(report.folder, report.history)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror or error}", where=report.folder) from error
    shutil.rmtree(report.folder / CHECKPOINTS, ignore_errors=True)

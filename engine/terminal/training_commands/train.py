"""`fouille train`: a cross-encoder or a bi-encoder fine-tuned by a recipe, every number of which has a flag."""

# ruff: noqa: ARG001 - a recipe's flags are read from the context, all at once, by `_recipe`

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.errors import InvalidOption, TrainingError
from engine.records import SearchOptions
from engine.settings import resolve
from engine.terminal import options as flag
from engine.terminal.given import as_the_collection_can, open_collection
from engine.terminal.output import counted, note
from engine.terminal.training_commands import flags
from engine.terminal.training_commands.bar import Shown, shown_training

if TYPE_CHECKING:
    from engine.training.candidates import Skipped
    from engine.training.dev import DevSet
    from engine.training.examples import Group
    from engine.training.recipes import Kind, Recipe
    from engine.training.session import TrainReport

__all__ = ["BI_ENCODER", "CROSS_ENCODER", "bi_encoder", "cross_encoder"]

INTERRUPTED = 130
_OF_DEV = ("dev_qrels", "dev_run", "dev_corpus", "patience")
_POOL = 5
"""Negatives kept of a question for each that a pass draws beside one positive: for other passes and other positives."""

_DATA = """\b
Data:
  groups.jsonl        question, passages, labels, perhaps scores: as `fouille mine` writes them
  pairs.tsv|jsonl     question, passage, label in [0, 1]
  triples.tsv|jsonl   question, positive, negative
  FOLDER[+RUN]        a BEIR folder's train qrels; negatives from a TREC run, else at random
  irds:ID[+RUN]       the same of an ir_datasets id; its triples where it has some, such as
                      mmarco/v2/fr/train
  mmarco:FOLDER[+FILE]
                      a copy of mMARCO: its training triples, or those of FILE (triples of
                      ids, or msmarco-hard-negatives.jsonl.gz)
  With @3 at the end, each of its groups is taken three times in a pass."""
EXAMPLE = "\b\nExample:\n  fouille train cross-encoder --preset distill --base models/small --data mined.jsonl -o mine"
CROSS_ENCODER = (
    """\b
Presets:
  mmarco-l6           pairs judged 0 or 1, four negatives to each positive: a million, in ten passes
  mmarco-me5          pairs judged 0 or 1, a mined negative to each positive: 20,000 steps of 128
  distill             a teacher's ranking of passages: the scores of the data, or of --teacher
  student             half of a trained cross-encoder's layers, taught by all of them (Jiao et al. 2020)
  margin-mse          as distill, by differences of scores (Hofstätter et al. 2020)
  mmarco-l6 and mmarco-me5 are the recipes of the mMARCO-fr model cards.
"""
    + _DATA
    + "\n"
    + EXAMPLE
)
BI_ENCODER = (
    """\b
Presets:
  bi-encoder          InfoNCE: the other passages of the batch and mined ones are the negatives
  bi-encoder-distill  a teacher's differences of scores: of the data, or of --teacher
"""
    + _DATA
    + """
\b
Example:
  fouille train bi-encoder --base intfloat/multilingual-e5-small --data mined.jsonl -o mine"""
)


def cross_encoder(
    context: typer.Context,
    output: flags.Folder,
    data: flags.Data = None,
    base: flags.Base = None,
    preset: flags.Preset = "mmarco-l6",
    recipe: flags.RecipeFile = None,
    teacher: flags.Teacher = None,
    held_out: flags.HeldOut = None,
    dev: flags.Dev = None,
    dev_qrels: flags.DevQrels = None,
    dev_run: flags.DevRun = None,
    dev_corpus: flags.DevCorpus = None,
    dev_depth: flags.DevDepth = 100,
    collection: flag.Collection = None,
    first_stage: flag.FirstStageOption = None,
    device: flag.Device = None,
    resume: flags.Resume = False,
    loss: flags.CrossEncoderLoss = None,
    layers: flags.Layers = None,
    start: flags.Start = None,
    frozen: flags.Frozen = None,
    bitfit: flags.BitFit = None,
    max_length: flags.MaxLength = None,
    examples: flags.Examples = None,
    negatives: flags.Negatives = None,
    redraw: flags.Redraw = None,
    boost: flags.Boost = None,
    anchor: flags.Anchor = None,
    epochs: flags.Epochs = None,
    steps: flags.Steps = None,
    batch: flags.Batch = None,
    accumulate: flags.Accumulate = None,
    learning_rate: flags.LearningRate = None,
    layer_decay: flags.LayerDecay = None,
    warmup: flags.Warmup = None,
    schedule: flags.Schedule = None,
    weight_decay: flags.WeightDecay = None,
    dropout: flags.Dropout = None,
    evaluate_every: flags.EvaluateEvery = None,
    patience: flags.Patience = None,
    seed: flags.Seed = None,
    precision: flags.Precision = None,
    licence: flags.Licence = None,
    data_licence: flags.DataLicence = None,
) -> None:
    """Fine-tune a cross-encoder.

    It is written as sentence-transformers and transformers load it. Data is checked before training begins. Ctrl-C
    saves a checkpoint that --resume goes on from.
    """
    _train("cross-encoder", context)


def bi_encoder(
    context: typer.Context,
    output: flags.Folder,
    data: flags.Data = None,
    base: flags.Base = None,
    preset: flags.Preset = "bi-encoder",
    recipe: flags.RecipeFile = None,
    teacher: flags.Teacher = None,
    held_out: flags.HeldOut = None,
    dev: flags.Dev = None,
    dev_qrels: flags.DevQrels = None,
    dev_run: flags.DevRun = None,
    dev_corpus: flags.DevCorpus = None,
    dev_depth: flags.DevDepth = 100,
    collection: flag.Collection = None,
    first_stage: flag.FirstStageOption = None,
    device: flag.Device = None,
    resume: flags.Resume = False,
    loss: flags.BiEncoderLoss = None,
    layers: flags.Layers = None,
    frozen: flags.Frozen = None,
    bitfit: flags.BitFit = None,
    max_length: flags.MaxLength = None,
    examples: flags.Examples = None,
    negatives: flags.Negatives = None,
    redraw: flags.Redraw = None,
    epochs: flags.Epochs = None,
    steps: flags.Steps = None,
    batch: flags.Batch = None,
    accumulate: flags.Accumulate = None,
    learning_rate: flags.LearningRate = None,
    layer_decay: flags.LayerDecay = None,
    warmup: flags.Warmup = None,
    schedule: flags.Schedule = None,
    weight_decay: flags.WeightDecay = None,
    dropout: flags.Dropout = None,
    temperature: flags.Temperature = None,
    evaluate_every: flags.EvaluateEvery = None,
    patience: flags.Patience = None,
    seed: flags.Seed = None,
    precision: flags.Precision = None,
    licence: flags.Licence = None,
    data_licence: flags.DataLicence = None,
) -> None:
    """Fine-tune a bi-encoder.

    It is written as sentence-transformers loads it. Data is checked before training begins. Ctrl-C saves a checkpoint
    that --resume goes on from.
    """
    _train("bi-encoder", context)


def _train(kind: "Kind", context: typer.Context) -> None:
    from engine.training.base import check_base, check_libraries
    from engine.training.candidates import Skipped
    from engine.training.processes import is_first
    from engine.training.quiet import quiet
    from engine.training.session import has_checkpoint, is_free, train
    from engine.training.sources import Origin

    given = context.params
    check_libraries()
    recipe, output, resume = _recipe(kind, given), Path(given["output"]), bool(given["resume"])
    first = is_first()
    if first and not resume and not is_free(output):
        hint = "go on with --resume, or choose another" if has_checkpoint(output) else "choose another"
        raise InvalidOption("the folder is taken", where=output, hint=hint)
    with quiet():
        check_base(recipe)
    skipped, dev = Skipped(), _dev(given, recipe)
    held_out = given["held_out"] and str(given["held_out"])
    if first and dev is not None:
        note(dev.notices)
    with shown_training(silent=not first) as shown:
        report = train(
            recipe,
            _groups(recipe, given, skipped, shown),
            output,
            device=resolve({"device": given["device"]}).device,
            resume=resume,
            progress=shown.progress,
            dev=dev,
            log=shown.log,
            origin=Origin(given["teacher"], held_out, skipped),
        )
    if first:
        note(skipped.lines())
        note([", ".join(f"{count:,} {what}" for what, count in report.counts.items())])
        note(_summary(report))
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _recipe(kind: "Kind", given: dict[str, Any]) -> "Recipe":
    from engine.training.recipes import Recipe, resolve_recipe

    named = {field.name for field in fields(Recipe)} - {"preset", "kind"}
    chosen = {name: value for name, value in given.items() if name in named and value not in (None, [], ())}
    if "layers" in chosen:
        chosen["layers"] = _layers(chosen["layers"])
    recipe = resolve_recipe(given["preset"], kind, file=given["recipe"], flags=chosen)
    if not recipe.data:
        raise InvalidOption("nothing to learn from", where="--data", hint="name data, see --help")
    return recipe


def _layers(text: str) -> list[int]:
    """`0,2,4-6` -> 0, 2, 4, 5, 6."""
    try:
        ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
    except ValueError:
        raise InvalidOption(f"{text!r} is no list of layers", where="--layers", hint="such as 0,2,4 or 0-5") from None
    return [layer for ends in ranges for layer in range(ends[0], ends[-1] + 1)]


def _groups(recipe: "Recipe", given: dict[str, Any], skipped: "Skipped", shown: Shown) -> "Iterator[Group]":
    from engine.training.sources import parse_source, read_held_out, read_source

    kept = None if given["held_out"] is None else read_held_out(Path(given["held_out"]))
    most = max(recipe.negatives, 1) * _POOL
    sources = [parse_source(spec) for spec in recipe.data]
    if kept is not None and not any(source.has_ids for source in sources):
        hint = "leave them out of the data themselves"
        raise InvalidOption("the data name no question by its id", where="--held-out", hint=hint)

    def read() -> "Iterator[Group]":
        for source in sources:
            yield from read_source(source, negatives=most, seed=recipe.seed, held_out=kept, skipped=skipped)
        if kept is not None and not skipped.held_out:
            hint = "are they ids of these questions?"
            raise TrainingError("none of its ids is in the data", where=given["held_out"], hint=hint)

    return iter(read() if given["teacher"] is None else _taught(read(), given, shown))


def _taught(groups: "Iterable[Group]", given: dict[str, Any], shown: Shown) -> "Iterator[Group]":
    from engine.models.shelf import Shelf
    from engine.training.teacher import taught

    teacher = Shelf(resolve({"device": given["device"]})).reranker(given["teacher"], fetch=True)
    return taught(groups, teacher, shown.progress)


def _dev(given: dict[str, Any], recipe: "Recipe") -> "DevSet | None":
    from engine.training.dev import dev_from_collection, dev_from_groups, dev_from_run

    questions, qrels, depth = given["dev"], given["dev_qrels"], given["dev_depth"]
    if questions is None:
        for name, value in {**given, "patience": recipe.patience}.items():
            if value is not None and name in _OF_DEV:
                where = f"--{name.replace('_', '-')}"
                raise InvalidOption("there are no dev questions", where=where, hint="name them with --dev")
        return None
    if depth < 1:
        raise InvalidOption(f"{depth} is less than 1", where="--dev-depth")
    if qrels is None:
        if Path(questions).is_file() and given["dev_run"] is None:
            return dev_from_groups(Path(questions))
        raise InvalidOption("dev questions need their judgements", where="--dev", hint="name them with --dev-qrels")
    if given["dev_run"] is not None:
        if given["dev_corpus"] is None:
            raise InvalidOption("the run's passages are needed", where="--dev-run", hint="name them with --dev-corpus")
        return dev_from_run(questions, qrels, Path(given["dev_run"]), given["dev_corpus"], depth)
    settings = resolve({name: given[name] for name in ("collection", "first_stage", "device")})
    options = SearchOptions(first_stage=settings.first_stage)
    with open_collection(settings) as target:
        if given["first_stage"] is None:
            options = as_the_collection_can(options, target)
        return dev_from_collection(questions, qrels, target, options.first_stage, depth)


def _summary(report: "TrainReport") -> Iterator[str]:
    from engine.training.card import figures, is_worse

    rate = (report.steps - report.first_step) / report.seconds if report.seconds else 0.0
    done = f"{counted(report.steps, 'step')}, {counted(report.examples, 'example')}, {rate:,.2f} steps/s"
    if report.interrupted:
        yield f"stopped after {done}; --resume with the same flags goes on: {report.folder}"
        return
    kept = next((figure for figure in figures(report.history) if figure["step"] == report.kept_step), {})
    measured = [
        f", {name} {100 * value:.1f} at step {report.kept_step:,}" for name, value in kept.items() if "@" in name
    ]
    if is_worse(report.history, report.kept_step):
        yield "the base was better before it was trained, by the dev questions"
    yield f"{done}{''.join(measured)}: {report.folder}"

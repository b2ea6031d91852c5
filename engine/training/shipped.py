"""The models that ship with fouille, made from start to end as `shipped.toml` says.

    python -m engine.training.shipped --data BEIR_FOLDERS --models MODEL_FOLDERS --work WORK --out engine/models/shipped

Each collection is indexed in both stages and mined for groups; the bi-encoder and the cross-encoder learn from them,
and a smaller cross-encoder learns from that one; both models get their cards, and the package is written. What the work
folder already holds is not made again.
"""

import argparse
import json
import random
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.collection import Collection
from engine.documents import open_source
from engine.errors import FouilleError, TrainingError
from engine.evaluation import read_qrels, read_questions
from engine.evaluation.lines import replacing
from engine.models import compact
from engine.models.export import export
from engine.settings import SHIPPED_ENCODER, SHIPPED_RERANKER
from engine.training.examples import Group, read_groups, record_of
from engine.training.mining import MineReport, Mining, mine
from engine.training.recipes import Recipe, resolve_recipe
from engine.training.session import train

if TYPE_CHECKING:
    import torch

__all__ = ["Plan", "Stage", "finish", "main", "mine_collection", "read_plan"]

_HERE = Path(__file__).parent
_CARDS = _HERE / "cards"
_WEIGHTS = "model.safetensors"
_SEED = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """One training. Each of the cross-encoder's goes on from the one before.

    Attributes:
        collections: name of a BEIR folder -> groups to learn from.
        recipe: numbers that differ from the preset's and, of the cross-encoder, from the plan's own.
        preset: how it learns.
        teacher: of a student that goes on learning: the number of the stage, from 1, whose model it has layers of.
    """

    collections: Mapping[str, int]
    recipe: Mapping[str, Any]
    preset: str = "distill"
    teacher: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What `shipped.toml` says.

    Attributes:
        encoder, base: folders' names under the folder of models; the first also finds the negatives.
        bi_encoder: how the first learns.
        share: of what it learnt, so much ships (WiSE-FT, Wortsman et al. 2022).
        interpolate: first stage -> the weight W that the cross-encoder recommends.
        candidates: how many candidates it recommends to rerank.
        max_length: tokens of a pair that it reads.
        mining: which negatives to take.
        recipe: numbers that differ from a preset's, in every one of the stages.
        stages: the cross-encoder's trainings, in order.
    """

    encoder: str
    bi_encoder: Stage
    share: float
    base: str
    interpolate: Mapping[str, float]
    candidates: int
    max_length: int
    mining: Mining
    recipe: Mapping[str, Any]
    stages: Sequence[Stage]


def read_plan(path: Path = _HERE / "shipped.toml") -> Plan:
    """The plan of a TOML file.

    Raises:
        TrainingError: it cannot be read, or is not of this form.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        stages = tuple(Stage(**stage) for stage in table.pop("stage"))
        parts = {"mining": Mining(**table["mining"]), "bi_encoder": Stage(**table["bi_encoder"]), "stages": stages}
        return Plan(**{**table, **parts})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise TrainingError(f"is no plan: {error}", where=path) from error


def mine_collection(folder: Path, encoder: Path, mining: Mining, work: Path) -> Path:
    """Groups of a BEIR folder's training questions, mined from both stages; a JSONL file under `work`.

    Args:
        folder: with `corpus.jsonl`, `queries.jsonl` and `qrels/train.tsv`.
        encoder: folder of the bi-encoder.
        mining: which negatives to take.
        work: where the collection and the file stay.
    """
    path = work / f"{folder.name}.jsonl"
    if path.exists():
        return path
    qrels = read_qrels(folder / "qrels" / "train.tsv")
    questions = read_questions(folder, only=qrels)
    place = work / "collections" / folder.name
    with (
        Collection.open(place)
        if place.exists()
        else Collection.create(place, first_stage="hybrid", encoder=str(encoder), splitter="none")
    ) as collection:
        collection.update([open_source(str(folder), columns=None)])
        report = MineReport()
        with replacing(path) as stream:
            for group in mine(collection, questions, qrels, mining, report):
                stream.write(json.dumps(record_of(group), ensure_ascii=False) + "\n")
    _say(f"{folder.name}: {report.questions} groups, {report.negatives} negatives")
    return path


def recipe_of(plan: Plan, stage: Stage, before: Path, work: Path) -> Recipe:
    """How a stage learns.

    Args:
        plan: the whole.
        stage: one of its stages.
        before: what the stage before left, or the base of the first.
        work: where the stages' models are.

    Raises:
        TrainingError: the plan names a number that no recipe has, or one that means nothing.
    """
    models: dict[str, Any] = {"base": str(before)}
    if stage.teacher is not None:
        models = {"base": str(_trained(work, stage.teacher)), "start": str(before)}
    return resolve_recipe(stage.preset, "cross-encoder", flags={**plan.recipe, **stage.recipe, **models})


def _trained(work: Path, number: int) -> Path:
    return work / f"trained-{number}"


def draw(files: Mapping[str, Path], stages: Sequence[Stage], number: int) -> Iterator[Group]:
    """The groups of a stage: of each collection so many as it says, from where the stages before it left off."""
    for name, count in stages[number].collections.items():
        groups = list(read_groups(files[name]))
        random.Random(f"{name} {_SEED}").shuffle(groups)
        start = sum(stage.collections.get(name, 0) for stage in stages[:number])
        for at in range(start, start + count):
            yield groups[at % len(groups)]


def between(source: Path, trained: Path, share: float, target: Path, card: str) -> Path:
    """A trained bi-encoder as it ships: its source's folder, with weights between its source's and those it learnt.

    Args:
        source: what it was trained from; what it lacks of the trained weights, such as a pooler, nobody reads.
        trained: a folder in sentence-transformers' layout.
        share: of the way from the source's weights to the trained ones, in [0, 1].
        target: the folder to write.
        card: the text of its README.md.
    """
    from safetensors.torch import load_file

    shutil.rmtree(target, ignore_errors=True)
    export(str(source), target)
    before, after = load_file(target / _WEIGHTS), load_file(trained / _WEIGHTS)
    tensors = {
        name: tensor.float().lerp(after[name].float(), share).to(tensor.dtype) for name, tensor in before.items()
    }
    return _write(target, tensors, card)


def finish(trained: Path, target: Path, card: str, recommended: Mapping[str, Any], max_length: int) -> Path:
    """A trained cross-encoder as it ships: fp16 weights, what it recommends, how much of a pair it reads, its card.

    Args:
        trained: a folder in sentence-transformers' layout.
        target: the folder to write.
        card: the text of its README.md.
        recommended: `interpolate` and `candidates`, for `config.json`.
        max_length: tokens of a pair; may be more than it was trained at.
    """
    import torch
    from safetensors.torch import load_file

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    changed = {
        "config.json": {"dtype": "float16", "fouille": dict(recommended)},
        "tokenizer_config.json": {"model_max_length": max_length},
    }
    for path in trained.glob("*.json"):
        shutil.copyfile(path, target / path.name)
    for name, values in changed.items():
        content = json.loads((trained / name).read_text(encoding="utf-8")) | values
        (target / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(trained / _WEIGHTS).items()}
    return _write(target, tensors, card)


def _write(folder: Path, tensors: "dict[str, torch.Tensor]", card: str) -> Path:
    """The weights and the card of a model's folder, which is given back."""
    from safetensors.torch import save_file

    save_file(tensors, folder / _WEIGHTS, {"format": "pt"})
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def make(plan: Plan, data: Path, models: Path, work: Path, out: Path, device: str = "auto") -> None:
    """Index, mine, train, finish, pack."""
    encoder, trained = models / plan.encoder, models / plan.base
    work.mkdir(parents=True, exist_ok=True)
    names = sorted({name for stage in (plan.bi_encoder, *plan.stages) for name in stage.collections})
    files = {name: mine_collection(data / name, encoder, plan.mining, work) for name in names}

    def learn(recipe: Recipe, groups: Iterator[Group], folder: Path) -> Path:
        if not (folder / _WEIGHTS).exists():
            report = train(recipe, groups, folder, device=device, progress=_progress)
            _say(f"{folder.name}: {report.steps} steps in {report.seconds:.0f} s")
        return folder

    flags = {**plan.bi_encoder.recipe, "base": str(encoder)}
    recipe = resolve_recipe(plan.bi_encoder.preset, "bi-encoder", flags=flags)
    taught = learn(recipe, draw(files, [plan.bi_encoder], 0), work / "trained-bi-encoder")
    for number, stage in enumerate(plan.stages):
        recipe = recipe_of(plan, stage, trained, work)
        trained = learn(recipe, draw(files, plan.stages, number), _trained(work, number + 1))
    bi_encoder = between(encoder, taught, plan.share, work / SHIPPED_ENCODER, _card("bi-encoder"))
    recommended = {"interpolate": plan.interpolate, "candidates": plan.candidates}
    cross_encoder = finish(trained, work / SHIPPED_RERANKER, _card("cross-encoder"), recommended, plan.max_length)
    for stored in compact.pack({SHIPPED_ENCODER: bi_encoder, SHIPPED_RERANKER: cross_encoder}, out):
        _say(f"{stored.name}: {stored.size / 1e6:.2f} MB")


def _card(kind: str) -> str:
    return (_CARDS / f"{kind}.md").read_text(encoding="utf-8")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _progress(part: str, done: int, total: int | None) -> None:
    if part == "training" and total and (done % 20 == 0 or done == total):
        _say(f"training: step {done} of {total}")


def main(given: Sequence[str] | None = None) -> int:
    """Follow the plan; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=_HERE / "shipped.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--models", type=Path, required=True, help="folder of model folders")
    parser.add_argument("--work", type=Path, required=True, help="where collections, groups and checkpoints stay")
    parser.add_argument("--out", type=Path, required=True, help="the package to write")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args(given)
    try:
        make(read_plan(asked.plan), asked.data, asked.models, asked.work, asked.out, asked.device)
    except FouilleError as error:
        _say(f"shipped: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

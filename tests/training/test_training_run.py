"""A training from start to end: the same weights twice, the same after Ctrl-C, and a folder that everyone loads."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from engine.errors import DependencyMissing, FouilleError, ModelNotFound, TrainingError
from engine.models import BiEncoder, CrossEncoder, precision
from engine.training import base, session
from engine.training.candidates import Skipped
from engine.training.card import figures, is_worse, write_card
from engine.training.dev import DevQuestion, DevSet
from engine.training.examples import Group
from engine.training.recipes import Recipe
from engine.training.session import CHECKPOINTS, TrainReport, is_free, train
from engine.training.sources import Origin

pytest.importorskip("accelerate")
pytest.importorskip("datasets")

RecipeOf = Callable[..., Recipe]


def dev_of(groups: list[Group]) -> DevSet:
    return DevSet(DevQuestion(one.question, one.passages, tuple(map(int, one.labels))) for one in groups)


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def interrupted_at(step: int) -> Callable[[str, int, int | None], None]:
    def report(part: str, done: int, total: int | None) -> None:
        if part == "training" and done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing by threads, and on a busy machine wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def trained(made: Path, groups: list[Group], recipe_of: RecipeOf) -> TrainReport:
    """One whole training with dev questions, for the tests that look at what it left; made once."""
    if not hasattr(trained_once, "report"):
        trained_once.report = train(recipe_of(), groups, made / "model", device="cpu", dev=dev_of(groups))
    return trained_once.report


trained_once = SimpleNamespace()


def test_trained_model_gives_equal_scores_wherever_it_is_loaded(trained: TrainReport, groups: list[Group]) -> None:
    import torch
    from sentence_transformers import CrossEncoder as Reference
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    pairs = [(group.question, passage) for group in groups[:2] for passage in group.passages]
    ours = CrossEncoder(str(trained.folder), device="cpu", precision="fp32").score_pairs(pairs, activation="none")
    reference = Reference(str(trained.folder), device="cpu", local_files_only=True)
    theirs = reference.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    model = AutoModelForSequenceClassification.from_pretrained(trained.folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.folder, local_files_only=True)
    asked, read = zip(*pairs, strict=True)
    features = tokenizer(list(asked), list(read), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        plain = model(**features).logits[:, 0].numpy()
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours == pytest.approx(plain, abs=1e-4)
    assert np.ptp(ours) > 0.01


def test_trained_model_gives_equal_scores_in_flag_reranker(trained: TrainReport, groups: list[Group]) -> None:
    flag = pytest.importorskip("FlagEmbedding")
    pairs = [(groups[0].question, passage) for passage in groups[0].passages]
    theirs = flag.FlagReranker(str(trained.folder), use_fp16=False, devices="cpu").compute_score(pairs)
    ours = CrossEncoder(str(trained.folder), device="cpu", precision="fp32").score_pairs(pairs, activation="none")
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_training_learns_and_keeps_its_best_step(trained: TrainReport, groups: list[Group]) -> None:
    found = {entry["step"]: entry["eval_nDCG@10"] for entry in trained.history if "eval_nDCG@10" in entry}
    assert list(found) == [0, 2, 4, 6]
    assert found[trained.kept_step] == max(figure for step, figure in found.items() if step)
    model = CrossEncoder(str(trained.folder), device="cpu", precision="fp32")
    again = dev_of(groups).measure(lambda pairs: model.score_pairs(pairs, activation="none"))
    assert again["nDCG@10"] == pytest.approx(found[trained.kept_step])


def test_folder_holds_model_card_and_curve_alone(trained: TrainReport) -> None:
    names = {path.name for path in trained.folder.iterdir()}
    assert {"README.md", "learning-curve.png", "model.safetensors", "config.json", "tokenizer.json"} <= names
    assert CHECKPOINTS not in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    card = (trained.folder / "README.md").read_text("utf-8")
    assert "| `learning_rate` | 0.001 |" in card
    assert "taught by the scores that the data hold" in card
    assert f"| {trained.kept_step} (kept) |" in card
    assert str(trained.folder.parent) not in card
    assert (trained.folder / "learning-curve.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_gives_the_same_weights(groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(recipe_of("mmarco-l6", steps=3, seed=seed), groups, tmp_path / name, device="cpu")
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_training_goes_on_after_ctrl_c_as_if_there_had_been_none(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    recipe, dev = recipe_of(), dev_of(groups)
    stopped = train(recipe, groups, tmp_path / "a", device="cpu", dev=dev, progress=interrupted_at(3))
    assert (stopped.interrupted, stopped.steps) == (True, 3)
    assert not (tmp_path / "a" / "model.safetensors").exists()
    went_on = train(recipe, groups, tmp_path / "a", device="cpu", dev=dev, resume=True)
    whole = train(recipe, groups, tmp_path / "b", device="cpu", dev=dev)
    assert (went_on.interrupted, went_on.steps, went_on.kept_step) == (False, 6, whole.kept_step)
    assert (went_on.first_step, whole.first_step) == (3, 0)
    assert "from step 3 on" in (tmp_path / "a" / "README.md").read_text("utf-8")
    assert [entry["step"] for entry in figures(went_on.history)] == [0, 2, 4, 6]  # none at 3, against the patience
    assert same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("damage", ["trainer_state.json", "model.safetensors"])
def test_resume_goes_back_to_the_last_checkpoint_that_is_whole(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path, damage: str
) -> None:
    recipe = recipe_of()
    train(recipe, groups, tmp_path / "a", device="cpu", progress=interrupted_at(4))
    newest = tmp_path / "a" / CHECKPOINTS / "checkpoint-4"
    content = (newest / damage).read_bytes()
    (newest / damage).write_bytes(content[: len(content) // 2])
    assert train(recipe, groups, tmp_path / "a", device="cpu", resume=True).first_step == 2
    train(recipe, groups, tmp_path / "b", device="cpu")
    assert same(tmp_path / "a", tmp_path / "b")


def test_resume_wants_a_checkpoint_of_the_same_recipe(groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(recipe_of(), groups, tmp_path / "a", device="cpu", resume=True)
    train(recipe_of(), groups, tmp_path / "a", device="cpu", progress=interrupted_at(1))
    with pytest.raises(TrainingError, match=r"another recipe: learning_rate 0.001 / 0.5"):
        train(recipe_of(learning_rate=0.5), groups, tmp_path / "a", device="cpu", resume=True)


def test_resume_wants_the_same_data_and_teacher(groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    def go_on(groups: list[Group], **told: str | None) -> None:
        with pytest.raises(TrainingError, match=rf"{tmp_path / 'a'}: was begun with (another recipe: |other data)"):
            train(recipe_of(), groups, tmp_path / "a", device="cpu", resume=True, origin=Origin(**told))

    taught = Origin("teacher", "ids.txt")
    train(recipe_of(), groups, tmp_path / "a", device="cpu", origin=taught, progress=interrupted_at(1))
    go_on(groups, teacher="other", held_out="ids.txt")
    go_on(groups, teacher="teacher")
    go_on(groups[1:], teacher="teacher", held_out="ids.txt")
    again = [replace(group, scores=tuple(score + 1e-6 for score in group.scores or ())) for group in groups]
    train(recipe_of(), again, tmp_path / "a", device="cpu", resume=True, origin=taught)


def test_training_that_came_to_no_checkpoint_leaves_its_folder_free(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    def broken() -> Iterator[Group]:
        yield groups[0]
        raise TrainingError("a bad line")

    with pytest.raises(TrainingError, match="a bad line"):
        train(recipe_of(), broken(), tmp_path / "a", device="cpu")
    assert is_free(tmp_path / "a")
    train(recipe_of(steps=2), groups, tmp_path / "a", device="cpu", progress=interrupted_at(1))
    assert not is_free(tmp_path / "a")


@pytest.mark.parametrize("preset", ["mmarco-l6", "bi-encoder"])
def test_length_is_at_most_what_the_base_has_positions_for(
    preset: str, groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    long = [replace(one, passages=tuple(text * 40 for text in one.passages)) for one in groups[:2]]
    recipe = recipe_of(preset, max_length=512, steps=1)
    folder = shutil.copytree(recipe.base, tmp_path / "base")
    names = json.loads((folder / "tokenizer_config.json").read_text("utf-8")) | {"model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), "utf-8")
    train(replace(recipe, base=str(folder)), long, tmp_path / "a", device="cpu")
    assert "| `max_length` | 128 |" in (tmp_path / "a" / "README.md").read_text("utf-8")


def test_card_tells_of_dev_questions_that_were_learnt_from(
    trained: TrainReport, groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    assert "dev questions, of which 8 were learnt from too, and which chose" in (
        trained.folder / "README.md"
    ).read_text("utf-8")
    dev = DevSet(question._replace(question=f"et {question.question}") for question in dev_of(groups).questions)
    other = train(recipe_of(steps=2), groups, tmp_path / "a", device="cpu", dev=dev)
    assert "dev questions, which took no part in training" in (other.folder / "README.md").read_text("utf-8")


def test_card_tells_of_the_teacher_what_was_left_out_and_a_better_base(recipe_of: RecipeOf, tmp_path: Path) -> None:
    history = [{"step": step, "eval_nDCG@10": figure, "eval_MRR@10": figure} for step, figure in ((0, 0.9), (2, 0.5))]
    origin = Origin("/models/teacher", "/lists/ids.txt", Skipped(held_out=3))
    write_card(tmp_path, recipe_of(), history, origin, counts={}, kept_step=2, first_step=0, seconds=1.0)
    card = (tmp_path / "README.md").read_text("utf-8")
    for line in ("- scored by teacher", "- without the questions of ids.txt", "- left out 3 questions kept for eval"):
        assert line in card
    assert "The base was better before it was trained." in card
    assert not is_worse(history, 0)


def test_training_stops_early_and_restores_the_best_step(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder as Reference

    from engine.training.trainers import CrossEncoderOnDev

    # A rate that destroys the model: after the first evaluations nothing gets better.
    recipe = recipe_of(learning_rate=0.9, steps=40, evaluate_every=1, patience=3)
    report = train(recipe, groups, tmp_path / "a", device="cpu", dev=dev_of(groups))
    figures = {entry["step"]: entry["eval_nDCG@10"] for entry in report.history if "eval_nDCG@10" in entry}
    assert report.steps < 40
    # A destroyed model's logits differ by rounding alone, so it is measured again by the very code of the training.
    again = CrossEncoderOnDev(dev_of(groups))(Reference(str(report.folder), device="cpu", local_files_only=True))
    assert again["nDCG@10"] == pytest.approx(figures[report.kept_step], abs=1e-6)


def test_layers_are_dropped_and_frozen(groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    recipe = recipe_of("mmarco-l6", layers=[1], frozen=0, steps=2, layer_decay=0.5)
    train(recipe, groups, tmp_path / "a", device="cpu")
    found, before = weights(tmp_path / "a"), weights(Path(recipe.base))
    assert not any(".layer.1." in name for name in found)
    table = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(found[table], before[table])
    query = "encoder.layer.{}.attention.self.query.weight"
    assert not np.array_equal(found["bert." + query.format(0)], before["bert." + query.format(1)])


def test_dropout_is_the_recipes_while_it_learns_and_the_bases_in_what_is_written(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    kept = {}
    for share in (None, 0.0, 0.5):
        recipe = recipe_of("mmarco-l6", steps=2, dropout=share)
        train(recipe, groups, tmp_path / str(share), device="cpu")
        written = json.loads((tmp_path / str(share) / "config.json").read_text("utf-8"))
        before = json.loads((Path(recipe.base) / "config.json").read_text("utf-8"))
        kept[share] = [written[name] == before.get(name, 0.1) for name in names]
    assert all(map(all, kept.values()))
    assert not same(tmp_path / "0.0", tmp_path / "0.5")


def test_student_learns_to_say_what_all_layers_said(groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    pairs = [(group.question, passage) for group in groups for passage in group.passages]

    def logits(folder: str | Path) -> np.ndarray:
        return CrossEncoder(str(folder), device="cpu", precision="fp32").score_pairs(pairs, activation="none")

    told = {"layers": [1], "boost": 0.0, "warmup": 0.0}
    for name, steps, rate, start in (("cut", 1, 1e-9, None), ("taught", 60, 3e-3, None), ("kept", 1, 1e-9, "taught")):
        begun = str(tmp_path / start) if start else None
        recipe = recipe_of("student", **told, steps=steps, learning_rate=rate, start=begun)
        train(recipe, groups, tmp_path / name, device="cpu")
    teacher = logits(recipe.base)
    cut, taught = (np.abs(logits(tmp_path / name) - teacher).mean() for name in ("cut", "taught"))
    assert not any(".layer.1." in name for name in weights(tmp_path / "taught"))
    assert taught < cut / 2
    assert logits(tmp_path / "kept") == pytest.approx(logits(tmp_path / "taught"), abs=1e-4)
    frozen = recipe_of("student", **told, start=str(tmp_path / "taught"), frozen=2)
    with pytest.raises(TrainingError, match="taught: has 1 layers, of which 2 cannot be frozen"):
        train(frozen, groups, tmp_path / "frozen", device="cpu")


def test_student_of_all_layers_has_nothing_to_learn(groups: list[Group], recipe_of: RecipeOf) -> None:
    import torch

    from engine.training import cross_encoder

    recipe = recipe_of("student", layers=[0, 1], anchor=5.0, max_length=128)
    model = cross_encoder.build(recipe, "cpu")
    loss = cross_encoder.loss(model, recipe)
    columns = [[groups[0].question], [list(groups[0].passages)], [list(groups[0].labels)]]
    nothing = torch.zeros(len(groups[0].passages))
    found = loss(columns, [nothing])
    ours = CrossEncoder(recipe.base, device="cpu", precision="fp32").score(
        groups[0].question, groups[0].passages, activation="none"
    )
    shares = torch.softmax(torch.from_numpy(ours), dim=0)
    assert float(found.detach()) == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-4)
    assert loss(columns, [nothing + torch.eye(len(nothing))[0]]) > found
    assert all(parameter.grad is None for parameter in loss.teacher.parameters())


@pytest.mark.parametrize("found", ["fp32", "bf16"])
def test_a_cpu_trains_in_the_precision_that_it_is_fast_at(
    found: str, recipe_of: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_precision", lambda *shape: {(32, 64): found}[shape])
    config = SimpleNamespace(hidden_size=32, intermediate_size=64)
    assert session._half(recipe_of(precision="auto"), "cpu", config) == found


def test_bi_encoder_is_measured_with_the_prompts_that_it_learns_with(groups: list[Group]) -> None:
    from engine.training.bi_encoder import prompts_of_columns
    from engine.training.trainers import BiEncoderOnDev

    class Prompted:
        prompts: ClassVar = {"query": "q: ", "document": "d: ", "passage": ""}
        seen: ClassVar[list[str]] = []

        def encode(self, texts: list[str], *, prompt: str, **_: object) -> np.ndarray:
            self.seen.append(prompt)
            return np.ones((len(texts), 1), np.float32)

    BiEncoderOnDev(dev_of(groups[:1]))(Prompted())
    assert prompts_of_columns(Prompted(), ["question", "positive"]) == {"question": "q: ", "positive": "d: "}
    assert Prompted.seen == ["q: ", "d: "]


@pytest.mark.parametrize("preset", ["bi-encoder", "bi-encoder-distill"])
def test_bi_encoder_learns_and_loads(preset: str, groups: list[Group], recipe_of: RecipeOf, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    # A batch's loss says more of what was drawn than of what was learnt: the measure on all groups tells.
    recipe = recipe_of(preset, steps=40, evaluate_every=40, dropout=0.0)
    report = train(recipe, groups, tmp_path / "a", device="cpu", dev=dev_of(groups))
    before, after = (entry["eval_nDCG@10"] for entry in report.history if "eval_nDCG@10" in entry)
    assert after > before + 0.2
    texts = list(groups[0].passages)
    ours = BiEncoder(str(report.folder), device="cpu", precision="fp32").encode_passages(texts)
    theirs = SentenceTransformer(str(report.folder), device="cpu").encode(
        texts, normalize_embeddings=True, show_progress_bar=False
    )
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("preset", ["bi-encoder", "distill"])
def test_bitfit_moves_no_matrix_of_the_base(
    preset: str, groups: list[Group], recipe_of: RecipeOf, tmp_path: Path
) -> None:
    recipe = recipe_of(preset, bitfit=True, frozen=1)
    report = train(recipe, groups, tmp_path / "a", device="cpu")
    before, after = weights(Path(recipe.base)), weights(report.folder)
    moved = [name for name, tensor in before.items() if not np.array_equal(tensor, after[name])]
    assert {after[name].ndim for name in moved if not name.startswith("classifier")} == {1}
    assert any("LayerNorm.weight" in name for name in moved)
    assert any("query.bias" in name for name in moved)
    assert not any("layer.0." in name or "embeddings" in name for name in moved)
    assert any(name.startswith("classifier") for name in moved) == (preset == "distill")


def test_base_that_cannot_be_trained_is_one_line(
    groups: list[Group], recipe_of: RecipeOf, tmp_path: Path, tiny: SimpleNamespace
) -> None:
    def base_of(name: str, **changes: object) -> str:
        folder = shutil.copytree(tiny.reranker, tmp_path / name)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
        return str(folder)

    student = {"loss": "layerwise", "layers": [0]}
    refused: list[tuple[dict[str, object], type[FouilleError], str]] = [
        ({"base": base_of("gpt", model_type="gpt2")}, TrainingError, "is no encoder"),
        ({"base": base_of("decoder", is_decoder=True)}, TrainingError, "is no encoder"),
        ({**student, "base": str(tiny.encoder)}, TrainingError, "has no head that a student could learn from"),
        ({**student, "start": str(tiny.encoder)}, TrainingError, "has no head that a student could learn from"),
        ({**student, "start": str(tiny.reranker)}, TrainingError, "has 2 layers, not the 1 of the recipe"),
        ({"base": base_of("labels", id2label={"0": "a", "1": "b", "2": "c"})}, TrainingError, "has 3 labels"),
        ({"base": str(tmp_path / "absent")}, ModelNotFound, "no such model"),
        ({"layers": [0, 5]}, TrainingError, "has 2 layers, none of number 5"),
        ({"frozen": 3}, TrainingError, "of which 3 cannot be frozen"),
    ]
    for flags, kind, reason in refused:
        with pytest.raises(kind, match=reason):
            train(recipe_of(**flags), groups, tmp_path / "out", device="cpu")


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_LIBRARIES", ("no_such_library",))
    with pytest.raises(DependencyMissing, match=r"pip install 'fouille\[train\]'"):
        base.check_libraries()

"""Recipes: the cards' numbers, changed by TOML and by flags, anything else refused."""

from pathlib import Path

import pytest

from engine.errors import TrainingError
from engine.training.recipes import PRESETS, Recipe, resolve_recipe


def test_presets_have_the_numbers_of_the_cards() -> None:
    l6 = resolve_recipe("mmarco-l6", "cross-encoder")
    assert (l6.loss, l6.examples, l6.negatives, l6.redraw, l6.epochs) == ("binary", 1_000_000, 4, False, 10)
    assert (l6.batch, l6.learning_rate, l6.warmup, l6.schedule, l6.max_length) == (32, 2e-5, 500, "linear", 512)
    assert "mMiniLMv2-L6-H384" in l6.base
    me5 = resolve_recipe("mmarco-me5", "cross-encoder")
    assert (me5.loss, me5.examples, me5.negatives, me5.steps) == ("binary", 2_600_000, 1, 20_000)
    assert (me5.batch, me5.learning_rate, me5.schedule, me5.max_length) == (128, 2e-5, "constant", 256)
    assert me5.base == "intfloat/multilingual-e5-base"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_sound(preset: str) -> None:
    recipe = resolve_recipe(preset, PRESETS[preset]["kind"])
    assert isinstance(recipe, Recipe)
    assert recipe.numbers()["preset"] == preset


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('batch = 8\nseed = 3\nlayers = [0, 2]\ndata = ["a.jsonl@2"]\nlicence = "MIT"\n', "utf-8")
    recipe = resolve_recipe("mmarco-l6", "cross-encoder", file=file, flags={"batch": 4, "steps": None})
    assert (recipe.batch, recipe.seed, recipe.epochs, recipe.layers) == (4, 3, 10, (0, 2))
    assert (recipe.data, recipe.licence) == (("a.jsonl@2",), "MIT")


def test_epochs_alone_are_not_overruled_by_the_steps_of_what_they_change(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("epochs = 2\n", "utf-8")
    recipe = resolve_recipe("mmarco-me5", "cross-encoder", file=file)
    assert (recipe.epochs, recipe.steps) == (2, None)
    file.write_text("steps = 7\n", "utf-8")
    for flags, wanted in (({"epochs": 3}, (3, None)), ({"epochs": 3, "steps": 5}, (3, 5)), ({}, (1, 7))):
        recipe = resolve_recipe("mmarco-me5", "cross-encoder", file=file, flags=flags)
        assert (recipe.epochs, recipe.steps) == wanted


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"bach": 3}, "no recipe has a 'bach'"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": True}, "batch cannot be True"),
        ({"batch": "8"}, "batch cannot be '8'"),
        ({"learning_rate": 2.0}, "trains nothing"),
        ({"layers": [2, 1]}, "must rise"),
        ({"layers": ["1"]}, "layers cannot be"),
        ({"loss": "contrastive"}, "cannot learn by contrastive"),
        ({"loss": "hinge"}, "loss cannot be 'hinge'"),
        ({"negatives": 0}, "needs negatives"),
        ({"loss": "layerwise"}, "layerwise needs layers"),
        ({"start": "student"}, "start is a student's, and binary trains the base"),
        ({"seed": 99_999_999_999}, r"seed is 99999999999, not below 2\^32"),
        ({"warmup": -1.0}, "warmup is -1"),
        ({"layer_decay": 1.5}, r"not in \(0, 1\]"),
        ({"dropout": 1.0}, r"dropout is 1, not in \[0, 1\)"),
    ],
)
def test_unsound_number_is_one_line(flags: dict[str, object], reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        resolve_recipe("mmarco-l6", "cross-encoder", flags=flags)


def test_preset_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TrainingError, match="no preset 'bi-encoder' for a cross-encoder"):
        resolve_recipe("bi-encoder", "cross-encoder")


def test_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("batch = ", "utf-8")
    with pytest.raises(TrainingError, match=r"r.toml: cannot be read"):
        resolve_recipe("mmarco-l6", "cross-encoder", file=tmp_path / "r.toml")

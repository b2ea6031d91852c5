"""What makes the models that ship, from an empty folder to a package, at a toy size."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.errors import TrainingError
from engine.models import BiEncoder, CrossEncoder, compact
from engine.settings import SHIPPED_ENCODER, SHIPPED_RERANKER
from engine.training import shipped
from engine.training.mining import Mining
from engine.training.recipes import resolve_recipe


@pytest.fixture
def plan(beir, tiny):
    return replace(
        shipped.read_plan(),
        encoder=tiny.encoder.name,
        bi_encoder=shipped.Stage({beir.name: 8}, {"bitfit": True, "batch": 4, "steps": 2}, "bi-encoder"),
        share=0.5,
        base=tiny.reranker.name,
        interpolate={"bm25": 0.25, "hybrid": 0.5},
        candidates=7,
        max_length=64,
        mining=Mining(1, 10, 4, "hybrid"),
        recipe={"negatives": 2, "batch": 4, "frozen": 1, "precision": "fp32", "seed": 1},
        stages=[
            shipped.Stage({beir.name: 12}, {"max_length": 24}),
            shipped.Stage({beir.name: 8}, {"max_length": 32}),
            shipped.Stage({beir.name: 8}, {"max_length": 32, "layers": [0], "frozen": 0}, "student"),
            shipped.Stage({beir.name: 8}, {"max_length": 32, "layers": [0], "frozen": 0}, "student", teacher=2),
        ],
    )


def test_from_collections_to_a_package(plan, beir, tiny, tmp_path):
    work, package = tmp_path / "work", tmp_path / "package"
    shipped.make(plan, beir.parent, tiny.encoder.parent, work, package, "cpu")

    found = work / f"{beir.name}.jsonl"
    groups = [json.loads(line) for line in found.read_text("utf-8").splitlines()]
    assert len(groups) == 8
    assert all(sum(group["labels"]) == 1 and len(group["passages"]) == 5 for group in groups)

    for name in (SHIPPED_ENCODER, SHIPPED_RERANKER):
        compact.unpack(package, name, tmp_path / name)
        assert "license: mit" in (tmp_path / name / "README.md").read_text("utf-8")
    model = CrossEncoder(tmp_path / SHIPPED_RERANKER, "cpu", "fp32")
    assert model.recommended_interpolate("hybrid") == 0.5
    assert model.recommended_interpolate("bm25") == 0.25
    assert model.default_candidates == 7
    assert model.max_length == 64
    assert len(model.score("où dort le chat ?", ["Le chat dort.", "Il pleut."])) == 2

    taught, source = (load_file(folder / "model.safetensors") for folder in (tmp_path / SHIPPED_ENCODER, tiny.encoder))
    assert [(name, tensor.dtype) for name, tensor in taught.items()] == [(name, source[name].dtype) for name in source]
    assert {tensor.ndim for name, tensor in taught.items() if not tensor.equal(source[name])} == {1}
    learnt = load_file(work / "trained-bi-encoder" / "model.safetensors")
    halfway = {name: (tensor + learnt[name]) / 2 for name, tensor in source.items()}
    assert all(tensor.allclose(halfway[name], atol=1e-6) for name, tensor in taught.items())
    assert BiEncoder(tmp_path / SHIPPED_ENCODER, "cpu", "fp32").encode_queries(["où dort le chat ?"]).shape == (1, 32)

    stages = sorted(work.glob("trained-[0-9]"))
    assert [path.name for path in stages] == [f"trained-{n}" for n in (1, 2, 3, 4)]
    weights = [load_file(folder / "model.safetensors") for folder in (tiny.reranker, *stages)]
    moved = [
        {name for name, tensor in after.items() if not tensor.equal(before[name])}
        for before, after in pairwise(weights)
    ]
    assert all(moved)
    assert not [name for names in moved for name in names if "embeddings" in name]
    assert not [name for name in moved[0] | moved[1] if "layer.0." in name]
    assert any("layer.1." in name for name in weights[2])
    assert not [name for name in (*weights[3], *weights[4]) if "layer.1." in name]


def test_the_stored_plan_is_a_recipe():
    plan = shipped.read_plan()
    assert all(0 <= weight < 10 for weight in plan.interpolate.values())
    for stage in plan.stages:
        assert sum(stage.collections.values()) > 1000
    assert resolve_recipe(plan.bi_encoder.preset, "bi-encoder", flags=plan.bi_encoder.recipe).bitfit
    recipes = [shipped.recipe_of(plan, stage, Path("before"), Path("work")) for stage in plan.stages]
    assert [(recipe.loss, recipe.frozen, recipe.max_length) for recipe in recipes] == [
        ("listwise", 6, 144),
        ("listwise", 6, 256),
        ("layerwise", 1, 192),
        ("layerwise", 1, 192),
    ]
    assert [(recipe.base, recipe.start) for recipe in recipes[2:]] == [
        ("before", None),
        (str(Path("work", "trained-2")), "before"),
    ]


def test_a_stage_draws_where_the_one_before_left_off(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"question": str(n), "passages": ["p", "n"], "labels": [1.0, 0.0], "scores": [1.0, 0.0]} for n in range(9)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    stages = [shipped.Stage({"a": 5}, {}), shipped.Stage({"a": 6}, {})]
    first, second = ([group.question for group in shipped.draw({"a": path}, stages, number)] for number in (0, 1))
    assert len(first) == 5
    assert len(second) == 6
    assert set(first) | set(second[:4]) == set(map(str, range(9)))
    assert second[4:] == first[:2]


def test_a_plan_with_another_key_is_refused(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('encoder = "e"\nsurprise = 1\n', "utf-8")
    with pytest.raises(TrainingError, match=r"plan\.toml: is no plan"):
        shipped.read_plan(path)

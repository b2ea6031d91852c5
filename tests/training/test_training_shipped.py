"""What makes the models that ship, from an empty folder to a package, at a toy size."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from engine.errors import TrainingError
from engine.models import CrossEncoder, compact
from engine.settings import SHIPPED_ENCODER, SHIPPED_RERANKER
from engine.training import shipped
from engine.training.mining import Mining


@pytest.fixture
def plan(beir, tiny):
    return replace(
        shipped.read_plan(),
        encoder=tiny.encoder.name,
        base=tiny.reranker.name,
        interpolate=0.5,
        candidates=7,
        max_length=64,
        collections={beir.name: 12},
        mining=Mining(1, 10, 4, "hybrid"),
        recipe={"max_length": 32, "negatives": 2, "batch": 4, "frozen": 1, "precision": "fp32", "steps": 3, "seed": 1},
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
    assert model.default_interpolate == 0.5
    assert model.default_candidates == 7
    assert model.max_length == 64
    assert len(model.score("où dort le chat ?", ["Le chat dort.", "Il pleut."])) == 2

    before = load_file(tiny.reranker / "model.safetensors")
    after = load_file(tmp_path / SHIPPED_RERANKER / "model.safetensors")
    moved = {name for name, tensor in after.items() if not tensor.equal(before[name].to(tensor))}
    assert moved
    assert not [name for name in moved if "embeddings" in name or "layer.0." in name]


def test_the_stored_plan_is_a_recipe():
    plan = shipped.read_plan()
    assert sum(plan.collections.values()) > 1000
    assert 0 <= plan.interpolate < 10
    shipped.resolve_recipe("distill", "cross-encoder", flags=plan.recipe)


def test_a_plan_with_another_key_is_refused(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('encoder = "e"\nsurprise = 1\n', "utf-8")
    with pytest.raises(TrainingError, match=r"plan\.toml: is no plan"):
        shipped.read_plan(path)

"""What the tests of training share: small French data in the field's layouts, and recipes that take a second."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.training.examples import Group
from engine.training.recipes import Recipe, resolve_recipe

ANIMALS = ("chat", "chien", "cheval", "loup", "ours", "renard", "lapin", "mouton")
PLACES = ("maison", "jardin", "forêt", "rivière")


def sentence(animal: str, place: str) -> str:
    return f"Le {animal} dort dans la {place} quand il pleut."


def group_of(number: int) -> Group:
    animal = ANIMALS[number % len(ANIMALS)]
    passages = [sentence(animal, PLACES[number % 4])]
    passages += [sentence(other, PLACES[(number + 1) % 4]) for other in ANIMALS if other != animal]
    labels = (1.0,) + (0.0,) * (len(passages) - 1)
    return Group(f"où dort le {animal} ?", tuple(passages), labels, tuple(float(-row) for row in range(len(passages))))


@pytest.fixture
def groups() -> list[Group]:
    return [group_of(number) for number in range(8)]


@pytest.fixture
def recipe_of(tiny: SimpleNamespace) -> Callable[..., Recipe]:
    """A recipe of two-layer models, in fp32; keywords change it."""

    def make(preset: str = "distill", **flags: object) -> Recipe:
        kind = "bi-encoder" if preset.startswith("bi-encoder") else "cross-encoder"
        base = tiny.encoder if kind == "bi-encoder" else tiny.reranker
        small = {"base": str(base), "max_length": 32, "negatives": 2, "batch": 4, "steps": 6, "evaluate_every": 2}
        return resolve_recipe(preset, kind, flags={**small, "precision": "fp32", "learning_rate": 1e-3, **flags})

    return make


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes records, one a line."""

    def write(*records: object, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
        return path

    return write


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """32 passages, 8 questions, one relevant passage each."""
    folder = tmp_path / "animaux"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"{a}-{p}", "title": "", "text": sentence(a, p)} for a in ANIMALS for p in PLACES]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = [{"_id": f"q{n}", "text": f"où dort le {animal} ?"} for n, animal in enumerate(ANIMALS)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)), "utf-8")
    judged = [f"q{n}\t{animal}-{PLACES[n % 4]}\t1" for n, animal in enumerate(ANIMALS)]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged), "utf-8")
    return folder


@pytest.fixture
def mmarco(tmp_path: Path) -> Path:
    """Eight training questions in mMARCO's layout, of which the first two are held out."""
    folder = tmp_path / "mmarco"

    def write(name: str, lines: list[str]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    texts = [sentence(a, p) for a in ANIMALS for p in PLACES]
    write("google/collections/french_collection.tsv", [f"{number}\t{text}" for number, text in enumerate(texts)])
    asked = [f"{100 + n}\toù dort le {animal} ?" for n, animal in enumerate(ANIMALS)]
    write("google/queries/train/french_queries.train.tsv", asked)
    triples = [f"{100 + n}\t{4 * n}\t{(4 * n + 1 + m) % 32}" for m in range(8) for n in range(8)]
    write("triples.train.ids.small.tsv", triples)
    write("msmarco-qidpidtriples.rnd-shuf.train-eval.tsv", triples[:2])
    systems = {"bm25": [31], "tas-b": [5, 6, 7], "ance": [7, 8, 9]}
    mined = [{"qid": 100 + n, "pos": [4 * n], "neg": systems} for n in range(8)]
    write("hard-negatives.jsonl", [json.dumps(record) for record in mined])
    return folder

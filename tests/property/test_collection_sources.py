"""Files and records that are edited, moved and indexed in any order: all of it is found, once, and nothing else."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Collection, Document
from engine.documents import Source, open_source

WORDS = ["chat", "chien", "lion", "ours", "loup", "cheval", "vache", "mouton", "renard", "aigle"]
STEPS = 25


class Disk:
    """Two folders of texts and two files of records, which change as a person's do."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random, self.root, self.moves = random.Random(seed), root, 0
        self.sources = [root / name for name in ("notes", "docs", "a.jsonl", "b.jsonl")]
        for folder in self.sources[:2]:
            (folder / "sub").mkdir(parents=True)
            for name in ("f0", "f1", "f2", "sub/g0", "sub/g1"):
                (folder / f"{name}.txt").write_text(self.text(), "utf-8")
        for first, path in zip((0, 10), self.sources[2:], strict=True):
            self.write(path, [{"_id": f"r{first + row}", "text": self.text()} for row in range(3)])

    def text(self) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(3, 8))) + f" n{self.random.random()}."

    @staticmethod
    def write(path: Path, records: list[dict[str, str]]) -> None:
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")

    def one(self, *, folder: bool) -> Path:
        return self.random.choice([path for path in self.sources if path.is_dir() is folder])

    def file(self) -> Path:
        return self.random.choice(sorted(path for path in self.one(folder=True).rglob("*.txt")))

    def edit(self) -> None:
        self.file().write_text(self.text(), "utf-8")

    def edit_record(self) -> None:
        path = self.one(folder=False)
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        self.random.choice(records)["text"] = self.text()
        self.write(path, records)

    def delete(self) -> None:
        file = self.file()
        if len(list(file.parent.iterdir())) > 1:
            file.unlink()

    def move_file(self) -> None:
        file, folder = self.file(), self.one(folder=True)
        if len(list(file.parent.iterdir())) > 1:
            self.moves += 1
            file.rename(folder / f"m{self.moves}.txt")

    def move_source(self) -> None:
        place = self.random.randrange(len(self.sources))
        path = self.sources[place]
        self.moves += 1
        target = self.root / f"moved{self.moves}" / self.random.choice([path.name, f"autre{path.suffix}"])
        target.parent.mkdir()
        self.sources[place] = path.rename(target)

    def opened(self) -> list[Source]:
        return [open_source(str(path)) for path in self.sources]

    def texts(self) -> Counter[str]:
        return Counter(item.text for source in self.opened() for item in source.read() if isinstance(item, Document))


def texts_of(collection: Collection, keys: list[str]) -> Counter[str]:
    return Counter(document.text for key in keys if (document := collection.document(key)))


def bring_up(collection: Collection, disk: Disk, *, prune: bool) -> None:
    """Indexes all sources, twice, and sees that what they hold is there, and with `prune` nothing else."""
    there = disk.texts()
    report = collection.update(disk.opened(), prune=prune)
    assert report.added + report.updated + report.unchanged + report.rejected == there.total()
    # Of a record that changed while its file was moved nobody knows whether it is the same one.
    assert all("which is gone, brought something else" in str(rejection) for rejection in report.rejections)
    found = texts_of(collection, collection.keys())
    assert (there - found).total() == report.rejected
    again = collection.update(disk.opened(), prune=prune)
    assert (again.added, again.updated, again.removed, again.rejected) == (0, 0, 0, report.rejected)
    if prune:
        gone = [name for name, location in collection.sources().items() if not os.path.lexists(location)]
        left = texts_of(collection, [key for name in gone for key in collection.keys_of(name)])
        assert not found - there - left


def remove_one(collection: Collection, disk: Disk) -> None:
    if keys := collection.keys():
        assert collection.delete([disk.random.choice(keys)]) == 1


def rebuild(collection: Collection, disk: Disk) -> None:
    before = texts_of(collection, collection.keys())
    Collection.rebuild(collection.path)
    assert texts_of(collection, collection.keys()) == before
    bring_up(collection, disk, prune=False)


def rebuild_from_sources(collection: Collection, disk: Disk) -> None:
    report = Collection.rebuild(collection.path, disk.opened())
    missing = disk.texts() - texts_of(collection, collection.keys())
    assert missing.total() == report.rejected


def walk(collection: Collection, disk: Disk) -> Iterator[Callable[[], object]]:
    """What happens, one thing after another."""
    changes = [disk.edit, disk.edit, disk.edit_record, disk.delete, disk.move_file, disk.move_source]
    uses = [
        lambda: bring_up(collection, disk, prune=False),
        lambda: bring_up(collection, disk, prune=True),
        lambda: collection.update(disk.random.sample(disk.opened(), 1), prune=disk.random.random() < 0.5),
        lambda: remove_one(collection, disk),
        lambda: rebuild(collection, disk),
        lambda: rebuild_from_sources(collection, disk),
    ]
    for _ in range(STEPS):
        yield disk.random.choice([*changes, *uses])


@pytest.mark.parametrize("seed", [1, 25, 30])  # in the last two records change while their file is moved
def test_all_that_sources_hold_is_found_once_whatever_became_of_them(tmp_path: Path, seed: int) -> None:
    disk = Disk(tmp_path / "disk", seed)
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        for happen in walk(collection, disk):
            happen()
            assert collection.verify()["state"] == "sound"
        bring_up(collection, disk, prune=True)

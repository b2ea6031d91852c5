"""What several unit tests need: the commands that measure, and a collection of both first stages by tiny models."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from engine.collection import Collection
from engine.records import Document
from engine.settings import Settings


@pytest.fixture
def fouille() -> Callable[..., Result]:
    """The commands that measure, called with their arguments; what they raise comes through."""
    import typer
    from typer.testing import CliRunner

    from engine.terminal.evaluation_commands import mount

    app = typer.Typer()
    mount(app)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


@pytest.fixture
def hybrid_of(tiny: SimpleNamespace, tmp_path: Path) -> Iterator[Callable[[Sequence[str]], Collection]]:
    """Makes the collection `c` of texts, under the keys d0, d1 and so on, each one passage, all by the tiny models."""
    with ExitStack() as opened:

        def make(texts: Sequence[str]) -> Collection:
            models = {"encoder": str(tiny.encoder), "reranker": str(tiny.reranker)}
            kind = {"first_stage": "hybrid", "splitter": "none", "settings": Settings(precision="fp32")}
            made = opened.enter_context(Collection.create(tmp_path / "c", **kind, **models))
            made.add([Document(f"d{n}", text) for n, text in enumerate(texts)])
            return made

        yield make


@pytest.fixture
def beir_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a BEIR folder of passages d0, d1 ..., questions q0, q1 ..., and one relevant passage of some questions."""

    def write(passages: Sequence[str], questions: Sequence[str], relevant: Mapping[int, int]) -> Path:
        folder = tmp_path / "beir"
        (folder / "qrels").mkdir(parents=True)
        for name, prefix, texts in (("corpus", "d", passages), ("queries", "q", questions)):
            rows = [json.dumps({"_id": f"{prefix}{n}", "text": text}) for n, text in enumerate(texts)]
            (folder / f"{name}.jsonl").write_text("\n".join(rows), "utf-8")
        judged = "".join(f"q{question}\td{passage}\t1\n" for question, passage in relevant.items())
        (folder / "qrels" / "dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
        return folder

    return write

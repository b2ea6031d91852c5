"""What several unit tests need: the commands that measure, and a collection of both first stages by tiny models."""

from collections.abc import Callable, Iterator, Sequence
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

"""The commands that measure retrieval: run, rerank, evaluate, tune, benchmark. `mount` adds them to the application."""

import typer

from engine.terminal.evaluation_commands import benchmark, evaluate, rerank, run, tune

__all__ = ["mount"]


def mount(app: typer.Typer) -> None:
    """Adds the commands to the application, each with its example."""
    app.command(epilog=run.EXAMPLE)(run.run)
    app.command(epilog=rerank.EXAMPLE)(rerank.rerank)
    app.command(epilog=evaluate.EXAMPLE)(evaluate.evaluate)
    app.command(epilog=tune.EXAMPLE)(tune.tune)
    app.command(epilog=benchmark.PROTOCOLS)(benchmark.benchmark)

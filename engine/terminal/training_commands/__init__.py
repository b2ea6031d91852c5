"""The commands that make models: train, mine, prune-vocabulary. `mount` adds them to the application."""

import typer

from engine.terminal.output import say
from engine.terminal.training_commands import mine, prune_vocabulary, train

__all__ = ["mount"]


def mount(app: typer.Typer) -> None:
    """Adds the commands to the application, each with its example."""
    training = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
    training.callback()(_train)
    training.command("cross-encoder", epilog=train.CROSS_ENCODER)(train.cross_encoder)
    training.command("bi-encoder", epilog=train.BI_ENCODER)(train.bi_encoder)
    app.add_typer(training, name="train", epilog=train.EXAMPLE)
    app.command(epilog=mine.EXAMPLE)(mine.mine)
    app.command("prune-vocabulary", epilog=prune_vocabulary.EXAMPLE)(prune_vocabulary.prune_vocabulary)


def _train(context: typer.Context) -> None:
    """Train a cross-encoder or a bi-encoder."""
    if context.invoked_subcommand is None:
        say(context.get_help())

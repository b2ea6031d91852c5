"""`fouille tune`: the settings of a search, chosen on dev questions."""

# ruff: noqa: ARG001 - flags named after a setting are read from the context, all at once, by `settings_of`

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import InvalidOption
from engine.settings import model_name
from engine.terminal import options as flag
from engine.terminal.evaluation_commands import flags
from engine.terminal.given import as_the_collection_can, open_collection, search_options, settings_of
from engine.terminal.output import note, say_table
from engine.terminal.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.evaluation.tuning import Tuning
    from engine.records import SearchOptions

__all__ = ["EXAMPLE", "tune"]

EXAMPLE = "\b\nExample:\n  fouille tune -c guide --questions dev.tsv --qrels dev.qrels"


def tune(
    context: typer.Context,
    questions: flags.QuestionsOption,
    qrels: flags.Judgements,
    collection: flag.Collection = None,
    measure: Annotated[str, typer.Option("--measure", metavar="MEASURE", help="Measure to maximise.")] = "nDCG@10",
    folds: Annotated[int, typer.Option("--folds", metavar="N", help="Folds of the cross-validation.")] = 5,
    first_stage: flag.FirstStageOption = None,
    do_rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    store: Annotated[bool, typer.Option("--store/--dry-run", help="Store the chosen values, or only show.")] = True,
    output: flags.TableFormat = "text",
) -> None:
    """Choose a collection's parameters on dev questions.

    They are k1, b, the fusion's weight, candidates and the interpolation's weight.
    A stage's values are stored where questions that had no part in the choice confirm them (cross-validation). They are
    the collection's: tuned for another first stage or reranker than its own, they can only be shown.
    """
    from engine.evaluation.qrels import read_qrels
    from engine.evaluation.questions import read_questions
    from engine.evaluation.tuning import tune as tune_collection

    settings = settings_of(context)
    judgements = read_qrels(qrels)
    asked = read_questions(questions, only=judgements)
    options = search_options(settings, rerank=do_rerank)
    with open_collection(settings) as target:
        if first_stage is None:
            options = as_the_collection_can(options, target)
        if store:
            _refuse_others(options, target.memory)
        with progress() as report:
            found = tune_collection(
                target, asked, judgements, options=options, measure=measure, folds=folds, progress=report
            )
        say_table(_shown(found, output), output)
        if store and found.chosen:
            target.remember(**found.chosen)
            note(["stored: " + ", ".join(f"{name} {value:g}" for name, value in found.chosen.items())])


def _refuse_others(options: "SearchOptions", memory: "Mapping[str, Any]") -> None:
    """Keep values of another first stage or reranker from being stored as the collection's.

    Raises:
        InvalidOption: another is asked for than the collection's own.
    """
    given = (("first_stage", options.first_stage), ("reranker", options.reranker and model_name(options.reranker)))
    for name, value in given:
        if value is not None and value != memory[name]:
            raise InvalidOption(
                f"the collection's own is {memory[name]}: these values would be stored for it",
                where=f"--{name.replace('_', '-')} {value}",
                hint="--dry-run shows them; fouille index changes what is its own",
            )


def _shown(found: "Tuning", output: str) -> str:
    from engine.evaluation.reports import render, together, tuning_record, tuning_tables, tuning_trials
    from engine.terminal.formats import to_json

    if output == "json":
        return to_json(tuning_record(found))
    if output == "csv":
        return render(tuning_trials(found), output)
    return together((render(rows, output) for rows in tuning_tables(found)), output)

"""The command `fouille`: flags in, the engine called, results out, errors mapped to exit codes.

0: hits, or done. 1: no hit. 2: an error, one line on stderr. 130: interrupted by Ctrl-C. A closed pipe is no error.
Flags named after a setting are read from the context, all at once, by `settings_of`.
"""

# ruff: noqa: ARG001

import atexit
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.records import SearchResult
from engine.settings import data_dir, resolve
from engine.terminal import evaluation_commands, training_commands
from engine.terminal import options as flag
from engine.terminal.complaints import line_of
from engine.terminal.given import (
    as_the_collection_can,
    nothing_found,
    open_collection,
    search_options,
    settings_of,
    without_effect,
)
from engine.terminal.interrupts import put_off_in_imports
from engine.terminal.output import awaited, complain, counted, remark, report, say, say_to_a_program
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import Style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.collection import Collection

__all__ = ["app", "main"]

NO_HIT, ERROR, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="fouille",
    invoke_without_command=True,
    rich_markup_mode=None,  # plain help starts three times faster
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)


@dataclass(slots=True)
class Run:
    """What `main` needs to know of the command line it runs: whose it is, and what to say where Ctrl-C ends it."""

    debug: bool = False
    command: str | None = None
    interrupted: str = "interrupted"


_GOES_ON = "interrupted: run it again to go on"


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("fouille")
        except PackageNotFoundError:
            number = "(not installed: run from its source)"
        say(f"fouille {number}")
        raise typer.Exit


@app.callback(epilog='\b\nExample:\n  fouille index ~/Documents\n  fouille search "où est le contrat de bail ?"')
def fouille(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Search French documents in two stages: BM25 and a bi-encoder propose passages, a cross-encoder orders them."""
    run = context.ensure_object(Run)
    run.debug, run.command = debug, context.invoked_subcommand
    if run.command in {"run", "rerank"}:
        run.interrupted = _GOES_ON
    if context.invoked_subcommand is None:
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(ERROR)


@app.command(epilog='\b\nExample:\n  fouille index ~/Documents "notes/*.md" -c notes --first-stage hybrid')
def index(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Folders, files, globs, BEIR folders, irds:ID, or - for JSONL on stdin."
        ),
    ],
    collection: flag.Collection = None,
    first_stage: flag.FirstStageOption = None,
    encoder: flag.Encoder = None,
    reranker: flag.Reranker = None,
    splitter: flag.SplitterOption = None,
    prune: flag.Prune = False,
    rebuild: flag.Rebuild = False,
    strict: flag.Strict = False,
    id_column: flag.IdColumn = None,
    title_column: flag.TitleColumn = None,
    text_column: flag.TextColumn = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    output: flag.AsJson = "text",
) -> None:
    """Index documents, or bring a collection up to date.

    Unchanged documents are skipped, changed ones replaced. A collection remembers its models and its splitter.
    """
    from engine.documents import Columns, open_source
    from engine.terminal.indexing import NOTHING, Asked, bring_up_to_date, known_locations
    from engine.terminal.tables import add_report, add_report_record

    if not rebuild:
        context.ensure_object(Run).interrupted = _GOES_ON
    settings = settings_of(context)
    columns = Columns(id=id_column, title=title_column, text=text_column)
    known = known_locations(settings)
    opened = [open_source(spec, columns=columns, emptied=known) for spec in sources]
    asked = Asked(first_stage, encoder, reranker, splitter)
    done = bring_up_to_date(settings, opened, asked, prune=prune, rebuild=rebuild, strict=strict, notify=complain)
    for notice in done.notices:
        complain(notice)
    report(add_report_record(done), output, partial(add_report, done))
    if NOTHING in done.notices:
        raise typer.Exit(ERROR)


@app.command(epilog='\b\nExample:\n  fouille search "comment le savon lave-t-il ?" -c guide -k 5 --in "*/sciences/*"')
def search(
    context: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know, in quotes.")],
    collection: flag.Collection = None,
    k: flag.K = None,
    candidates: flag.Candidates = None,
    first_stage: flag.FirstStageOption = None,
    k1: flag.K1 = None,
    b: flag.B = None,
    rerank: flag.Rerank = None,
    reranker: flag.Reranker = None,
    interpolate: flag.Interpolate = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
    long_passages: flag.LongPassagesOption = None,
    keys: flag.In = None,
    where: flag.Where = None,
    per_document: flag.PerDocument = None,
    output: flag.Format = "text",
    qid: flag.QuestionId = "1",
    full: flag.Full = False,
    explain: flag.Explain = False,
    timing: flag.Timing = False,
) -> None:
    """Find the passages that answer a question."""
    settings = settings_of(context)
    options = search_options(
        settings,
        k=settings.k,
        rerank=rerank,
        keys=None if keys is None else flag.typed(keys),
        where=flag.pairs_of(where or ()),
        per_document=per_document,
    )
    with open_collection(settings) as target:
        if first_stage is None:
            options = as_the_collection_can(options, target)
        with awaited("searching…"):
            result = target.search(question, options)
        told = [*result.notices, *without_effect(context.params, result)]
        if not result.hits and output == "text":
            told.append(nothing_found(target, options, "--"))
    for notice in told:
        complain(notice)
    if result.hits or output != "text":
        _show(result, output, qid, full=full, explain=explain)
    if timing:
        from engine.terminal.render import timing as timing_lines

        remark(timing_lines(result.timings, Style.of(sys.stderr).width))
    if not result.hits:
        raise typer.Exit(NO_HIT)


def _show(result: SearchResult, output: str, qid: str, *, full: bool, explain: bool) -> None:
    if output == "text":
        from engine.terminal.render import render

        say(render(result, Style.of(sys.stdout), full=full, explained=explain))
        return
    from engine.terminal.formats import FORMATS, as_trec

    text = as_trec(result, qid) if output == "trec" else FORMATS[output](result)
    if text:
        say_to_a_program(text)


@app.command(epilog="\b\nExample:\n  fouille shell -c guide")
def shell(
    context: typer.Context,
    collection: flag.Collection = None,
    device: flag.Device = None,
    precision: flag.Precision = None,
    batch_tokens: flag.BatchTokens = None,
    max_length: flag.MaxLength = None,
) -> None:
    """Search interactively: models and indexes stay warm.

    Lines may also come from a pipe; then the exit code is 2 when one of them failed.
    """
    from engine.terminal.prompt import interact, read_lines
    from engine.terminal.shell import Shell

    settings = settings_of(context)
    first = open_collection(settings)

    def opener(name: str) -> "Collection":
        return open_collection(settings, name, shelf=first.shelf)

    session = Shell(
        opener,
        first,
        as_the_collection_can(search_options(settings, k=settings.k), first),
        style=Style.of(sys.stdout),
        interactive=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    try:
        if session.interactive:
            interact(session, sys.stdout)
        elif not read_lines(session, sys.stdin):
            raise typer.Exit(ERROR)
    finally:
        session.collection.close()


@app.command(epilog='\b\nExample:\n  fouille remove "documents/musique/*" -c guide')
def remove(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="KEY|GLOB...", help="Documents' keys, or globs over them.")],
    collection: flag.Collection = None,
) -> None:
    """Remove documents, until their source is indexed again."""
    from engine.terminal.lookup import keys_at, not_there

    with open_collection(settings_of(context)) as target:
        chosen: set[str] = set()
        for wanted in keys:
            if not (found := keys_at(target, wanted)):
                complain(not_there(target, wanted))
            chosen.update(found)
        removed = target.delete(sorted(chosen))
    say(f"removed {counted(removed, 'document')}")
    if not removed:
        raise typer.Exit(NO_HIT)


@app.command("list", epilog='\b\nExample:\n  fouille list --format json\n  fouille list -c guide --in "*/sciences/*"')
def list_(
    context: typer.Context, collection: flag.Collection = None, keys: flag.In = None, output: flag.AsJson = "text"
) -> None:
    """List collections, or the keys of one's documents.

    Without -c or --in: the collections in the user's data folder.
    """
    if collection is None and keys is None:
        _list_collections(output)
    else:
        _list_keys(context, keys, output)


def _list_collections(output: str) -> None:
    from engine.collection import list_collections
    from engine.terminal.tables import collections

    found = list_collections(data_dir() / "collections")
    if found or output == "json":
        report(found, output, partial(collections, found))
    else:
        complain(f"no collections in {data_dir()} yet: fouille index FOLDER makes one")


def _list_keys(context: typer.Context, glob: str | None, output: str) -> None:
    from engine.terminal.lookup import keys_like
    from engine.terminal.tables import lines

    with open_collection(settings_of(context)) as target:
        found = keys_like(target, glob)
    if found or output == "json":
        report(found, output, partial(lines, found))
    else:
        complain("no documents" if glob is None else f"no document's key matches {glob}")
    if not found:
        raise typer.Exit(NO_HIT)


@app.command(epilog="\b\nExample:\n  fouille info -c guide")
def info(context: typer.Context, collection: flag.Collection = None, output: flag.AsJson = "text") -> None:
    """Say what a collection holds, and whether an index lags."""
    from engine.terminal.tables import pairs

    with open_collection(settings_of(context)) as target:
        record = target.info()
    report(record, output, partial(pairs, record))


@app.command(epilog="\b\nExample:\n  fouille show documents/sciences/savon.md -c guide")
def show(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The document's key, as a search shows it.")],
    collection: flag.Collection = None,
    output: flag.AsJson = "text",
) -> None:
    """Show a document's text as it was indexed."""
    from engine.terminal.lookup import document_at, not_there
    from engine.terminal.tables import document, document_record

    with open_collection(settings_of(context)) as target:
        if (found := document_at(target, key)) is None:
            complain(not_there(target, key))
            raise typer.Exit(NO_HIT)
    report(document_record(found), output, partial(document, found))


@app.command(epilog="\b\nExample:\n  fouille verify -c guide && echo sound")
def verify(context: typer.Context, collection: flag.Collection = None, output: flag.AsJson = "text") -> None:
    """Check that a collection's parts agree.

    Counts and checksums of catalog, BM25 and dense index. Exits with 2 on damage; a lag is pending, not damage.
    """
    from engine.terminal.tables import pairs

    with open_collection(settings_of(context)) as target:
        record = target.verify()
    report(record, output, partial(pairs, record))
    if record["state"] == "damaged":
        raise typer.Exit(ERROR)


@app.command(epilog="\b\nExample:\n  fouille doctor --format json")
def doctor(output: flag.AsJson = "text") -> None:
    """Say what works here, what does not, and how to mend it."""
    from engine.terminal.doctor import checks_record, examine, render

    found = examine()
    record = checks_record(found)
    report(record, output, partial(render, found))
    if not record["works"]:
        raise typer.Exit(ERROR)


models = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(
    models,
    name="models",
    epilog="\b\nExample:\n  fouille models\n  fouille models export fouille-fr-cross-encoder mine",
)


@models.callback()
def list_models(context: typer.Context, output: flag.AsJson = "text") -> None:
    """List known models: how they compare, where each lies."""
    from engine.terminal.known_models import models_record, render

    if context.invoked_subcommand is None:
        found = models_record(resolve())
        report(found, output, partial(render, found))


@models.command(epilog="\b\nExample:\n  fouille models export fouille-fr-cross-encoder mine")
def export(
    name: flag.ModelName,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="To make; must not exist, or be empty.")],
) -> None:
    """Write a model out for sentence-transformers and transformers."""
    from engine.models.export import export as write_out

    say(f"wrote {sanitise_line(str(write_out(name, folder)))}")


evaluation_commands.mount(app)
training_commands.mount(app)


def main(arguments: "Sequence[str] | None" = None) -> None:
    """Run a command line, this process's own where none is given, and exit."""
    run, code = Run(), 0
    put_off_in_imports()
    try:
        for name in ("stdin", "stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by whoever started us
                setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 - until the end
            # A locale without UTF-8 loses characters, never the answer.
            if hasattr(stream := getattr(sys, name), "reconfigure"):
                stream.reconfigure(errors="replace")
        code = _run(run, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except OSError as error:
        if code != ERROR:
            complain(f"the output cannot be written: {error.strerror}")
        code = ERROR
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        complain(run.interrupted)
    _leave(code, at_once=arguments is None)


def _run(run: Run, arguments: "Sequence[str] | None") -> int:
    """The exit code of a command line."""
    command = typer.main.get_command(app)
    try:
        # Without `standalone_mode`, what a command raises comes here instead of ending the process with 1.
        code = command.main(arguments, prog_name="fouille", standalone_mode=False, obj=run)
    except BrokenPipeError:
        raise
    except SystemExit as end:
        # Typer ends the process itself, with 1, when a pipe closes.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except Exception as error:  # noqa: BLE001 - the last place that can turn an error into a line
        if run.debug:
            import traceback

            traceback.print_exc()
        complain(line_of(error, run.command))
        return ERROR
    return code if isinstance(code, int) else 0


def _leave(code: int, *, at_once: bool) -> None:
    """End the process; what a closed pipe or a full disk did not take is dropped without a word.

    `at_once` does what was registered for the end, then leaves memory, models and Java to the system: Python would take
    them apart piece by piece, a tenth of a cold search.
    """
    if at_once:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if at_once:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The shell's two ways in: a person at a prompt, or lines from a pipe."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from engine.settings import data_dir
from engine.terminal.shell import Shell
from engine.terminal.shell_commands import COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.history import History

__all__ = ["completions", "interact", "read_lines"]

_HISTORY = "history"


def completions(line: str) -> Iterator[tuple[str, str, str]]:
    """What can follow a line: the whole word, the part of the line it replaces, and a word of help."""
    if not line.startswith("."):
        return
    name, space, argument = line[1:].partition(" ")
    if not space:
        for command in COMMANDS.values():
            if command.name.startswith(name):
                yield f".{command.name}", line, command.help
    elif name in COMMANDS:
        argument = argument.lstrip()
        for value in COMMANDS[name].values():
            if value.startswith(argument):
                yield value, argument, ""


def read_lines(shell: Shell, lines: Iterable[str]) -> bool:
    """Do what each line says until they end or one says `.quit`; whether all of them worked."""
    shell.prepare()
    worked = True
    for line in lines:
        worked &= shell.attempt(line.rstrip("\r\n"))
        if shell.finished:
            break
    return worked


def interact(shell: Shell, terminal: IO[str]) -> None:
    """Read and do lines until `.quit` or Ctrl-D; Ctrl-C gives up the line that is being typed."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion

    class Complete(Completer):
        def get_completions(self, document: "Document", complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
            for word, replaced, help_ in completions(document.text_before_cursor):
                yield Completion(word, start_position=-len(replaced), display_meta=help_)

    session: PromptSession[str] = PromptSession(
        "fouille> ",
        history=_history(shell),
        completer=Complete(),
        bottom_toolbar=lambda: _toolbar(shell),
        complete_while_typing=False,
    )

    def prepare(_: object) -> None:
        """Once the prompt stands: what loads in the background would slow it down."""
        session.app.after_render -= prepare
        shell.prepare()

    session.app.after_render += prepare
    terminal.write("A line searches, .help lists the commands, Ctrl-D leaves.\n")
    while not shell.finished:
        with suppress(KeyboardInterrupt):
            try:
                line = session.prompt()
            except EOFError:
                break
            shell.attempt(line)


def _toolbar(shell: Shell) -> "StyleAndTextTuples":
    collection, *parts = shell.status()
    return [("bold", f" {collection} "), ("", "".join(f"│ {part} " for part in (*parts, ".help")))]


def _history(shell: Shell) -> "History":
    """The lines of earlier sessions, in a file that only its owner reads; of this one alone where that cannot be."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = data_dir() / _HISTORY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("ab"):
            pass
    except OSError as error:
        shell.complain(f"{path}: no history is kept: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(path)

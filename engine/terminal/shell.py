"""The interactive shell's state and what its lines do; `prompt.py` brings the lines in."""

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from engine.errors import FouilleError, InvalidOption
from engine.records import Hit, SearchOptions, SearchResult
from engine.terminal.given import as_the_collection_can, filters, nothing_found
from engine.terminal.output import awaited, complain
from engine.terminal.render import render, timing
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import PLAIN, Style
from engine.terminal.suggestions import did_you_mean

if TYPE_CHECKING:
    from engine.collection import Collection

__all__ = ["Shell"]

_FILTER_SHOWN = 30
_QUOTED = re.compile(r"""([\w.-]+=)?(["'])([^"']*)\2""")
# What hints call by its flag, the shell calls by its command; `--rebuild` and the like stay flags of other commands.
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)|-c(?= NAME)")


@dataclass(slots=True)
class Shell:
    """One session: a collection held open, the options of the next search, the result of the last.

    Attributes:
        opener: opens a collection by name or path.
        interactive: whether a person sits at a terminal; else lines come from a pipe, and answers name their questions.
    """

    opener: "Callable[[str], Collection]"
    collection: "Collection"
    options: SearchOptions = field(default_factory=SearchOptions)
    out: IO[str] = field(default_factory=lambda: sys.stdout)
    err: IO[str] = field(default_factory=lambda: sys.stderr)
    style: Style = PLAIN
    interactive: bool = True
    explained: bool = False
    timed: bool = False
    full: bool = False
    last: SearchResult | None = None
    finished: bool = False
    _asked: SearchOptions | None = None
    _notices: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Begin to load what the next search will use; what cannot be had is told by the search."""
        with suppress(FouilleError):
            self.collection.prepare(self.options)

    def attempt(self, line: str) -> bool:
        """Do what a line says. Whatever goes wrong is one line on stderr; an interrupt stops the line, not the shell.

        Returns:
            Whether it worked.

        Raises:
            KeyboardInterrupt: the lines come through a pipe: all of them are meant.
        """
        try:
            self.handle(line)
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            self.complain("stopped")
        except BrokenPipeError:
            raise
        except FouilleError as error:
            self.complain(_in_the_shell_s_words(error))
        except OSError as error:
            self.complain(str(error))
        except Exception as error:  # noqa: BLE001 - a shell that holds models and indexes open does not end over a line
            self.complain(f"unexpected {type(error).__name__}: {error}")
        else:
            return True
        return False

    def handle(self, line: str) -> None:
        """Run a command (`.name argument`), or search for anything else; a leading space makes any line a question.

        Raises:
            FouilleError: the command is unknown, its argument makes no sense, or the search failed.
        """
        if not line.strip():
            return
        if line.startswith(".") and line[1:2].strip("."):
            self._command(*line[1:].strip().partition(" ")[::2])
        else:
            self._search(line.strip())

    def _command(self, name: str, argument: str) -> None:
        from engine.terminal.shell_commands import COMMANDS

        command = COMMANDS.get(name)
        if command is None:
            meant = did_you_mean(name, COMMANDS, mark=".")
            hint = meant or ".help lists them; a leading space makes it a question"
            raise InvalidOption(f"no command is called .{sanitise_line(name)}", hint=hint)
        command.run(self, _unquoted(argument.strip()))

    def _search(self, question: str) -> None:
        with awaited("searching…", self.err):
            result = self.collection.search(question, self.options)
        self.last, self._asked = result, self.options
        # The same notice at every question would only hide the answers.
        for notice in result.notices:
            if notice not in self._notices:
                self.complain(notice)
        self._notices = result.notices
        if not self.interactive:
            self.say(self.style.paint(f"» {sanitise_line(question)}", "bold"))
        if result.hits:
            self.say(render(result, self.style, full=self.full, explained=self.explained))
        else:
            self.complain(nothing_found(self.collection, self.options, "."))
        if self.interactive or result.hits:
            self.say("")
        if self.timed:
            self.err.write(f"{timing(result.timings, self.style.width)}\n")

    def hit(self, argument: str) -> Hit:
        """The hit of the last search with the rank that the argument names.

        Raises:
            InvalidOption: there was no search, or it has no such hit.
        """
        if self.last is None or not self.last.hits:
            raise InvalidOption("there are no hits to choose from", hint="search first")
        hits = self.last.hits
        if not argument.isdecimal() or len(argument) > 9 or not 1 <= int(argument) <= len(hits):
            raise InvalidOption(f"{argument[:40] or 'nothing'!r} is no rank", hint=f"1 to {len(hits)}")
        return hits[int(argument) - 1]

    def switch(self, name: str) -> None:
        """Close this collection and hold another one open; when that cannot be opened, this one stays.

        What `.in` and `.where` ask goes with the collection that it was asked of.
        """
        opened = self.opener(name)
        self.collection.close()
        self.collection, self.last, self._asked = opened, None, None
        self.options = replace(as_the_collection_can(self.options, opened), keys=None, where={})

    def say(self, text: str) -> None:
        """Write a result."""
        self.out.write(f"{text}\n")
        self.out.flush()

    def complain(self, text: str) -> None:
        """Write what is no result: an error, a notice, a timing."""
        complain(text, self.err)

    def status(self) -> tuple[str, ...]:
        """Collection, mode, filters and last timing, for the toolbar."""
        last = self.last
        took = f"{last.timings['total'] * 1000:.0f} ms" if last and "total" in last.timings else "–"
        shown = [one if len(one) <= _FILTER_SHOWN else f"{one[:_FILTER_SHOWN]}…" for one in filters(self.options)]
        parts = [self.collection.name, ", ".join(filter(None, (self._stage(), self._reranked()))), *shown, took]
        return tuple(map(sanitise_line, parts))

    def _stage(self) -> str:
        """The first stage of the next search: where the last one asked alike, the one that answered it."""
        if self.last and self._asked and self._asked.first_stage == self.options.first_stage:
            return self.last.first_stage
        return self.options.first_stage or str(self.collection.memory["first_stage"])

    def _reranked(self) -> str:
        """Whether the next search is reranked, as far as that is known before a search has looked for the model."""
        options, asked = self.options, self._asked
        if options.rerank is False:
            return "no reranker"
        if self.last and asked and asked.rerank is not False and asked.reranker == options.reranker:
            return "reranked" if self.last.reranker else "no reranker at hand"
        return "reranked" if options.rerank or options.reranker else ""


def _unquoted(argument: str) -> str:
    """An argument without the quotes around it, or around the VALUE of NAME=VALUE, that a command line would need."""
    quoted = _QUOTED.fullmatch(argument)
    return argument if quoted is None else f"{quoted[1] or ''}{quoted[3]}"


def _in_the_shell_s_words(error: FouilleError) -> str:
    """An error with its flags as commands; what is wrong stays as it is, for it may quote a person."""
    where = _commands_for_flags(error.where) if isinstance(error.where, str) else error.where
    return str(FouilleError(error.what, where=where, hint=error.hint and _commands_for_flags(error.hint)))


def _commands_for_flags(text: str) -> str:
    from engine.terminal.shell_commands import COMMANDS

    def command(flag: re.Match[str]) -> str:
        name = flag[1] or "collection"
        return f".{name}" if name in COMMANDS else flag[0]

    return _FLAG.sub(command, text.replace("--no-rerank", ".rerank off"))

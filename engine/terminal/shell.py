"""The interactive shell's state and what its lines do; `prompt.py` brings the lines in."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import IO, TYPE_CHECKING

from engine.errors import FouilleError, InvalidOption
from engine.records import Hit, SearchOptions, SearchResult
from engine.terminal.render import render, timing
from engine.terminal.sanitise import sanitise_line
from engine.terminal.style import PLAIN, Style

if TYPE_CHECKING:
    from engine.collection import Collection

__all__ = ["Shell"]


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
    _notices: tuple[str, ...] = ()

    def attempt(self, line: str) -> bool:
        """Do what a line says. Whatever goes wrong is one line on stderr; an interrupt stops the line, not the shell.

        Returns:
            Whether it worked.
        """
        try:
            self.handle(line)
        except KeyboardInterrupt:
            self.complain("stopped")
        except BrokenPipeError:
            raise
        except (FouilleError, OSError) as error:
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
            close = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean .{close[0]}?" if close else ".help lists them; a leading space makes it a question"
            raise InvalidOption(f"no command is called .{sanitise_line(name)}", hint=hint)
        command.run(self, argument.strip())

    def _search(self, question: str) -> None:
        result = self.collection.search(question, self.options)
        self.last = result
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
            self.complain("no passage found")
        if self.interactive or result.hits:
            self.say("")
        if self.timed:
            self.err.write(f"{timing(result.timings)}\n")

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
        self.collection, self.last = opened, None
        self.options = replace(self.options, keys=None, where={})

    def say(self, text: str) -> None:
        """Write a result."""
        self.out.write(f"{text}\n")
        self.out.flush()

    def complain(self, text: str) -> None:
        """Write what is no result: an error, a notice, a timing."""
        self.err.write(f"fouille: {sanitise_line(text)}\n")
        self.err.flush()

    def status(self) -> tuple[str, str, str]:
        """Collection, mode and last timing, for the toolbar."""
        options, last = self.options, self.last
        stage = options.first_stage or (last.first_stage if last else None) or "first stage"
        if options.rerank is False:
            mode = f"{stage}, no reranker"
        elif last is None:
            mode = stage if options.rerank is None else f"{stage}, reranked"
        else:
            mode = f"{stage}, reranked" if last.reranker else f"{stage}, no reranker at hand"
        took = f"{last.timings['total'] * 1000:.0f} ms" if last and "total" in last.timings else "–"
        return sanitise_line(self.collection.name), mode, took

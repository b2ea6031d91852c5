"""The shell's commands as data: a name, its argument, what it does, and the values that complete it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, get_args

from engine.errors import InvalidOption
from engine.records import FirstStage, LongPassages, SearchOptions
from engine.settings import parse
from engine.terminal.given import filters
from engine.terminal.options import collection_names, model_names, pairs_of, typed
from engine.terminal.render import explain_hit, fold
from engine.terminal.sanitise import sanitise, sanitise_line
from engine.terminal.shell import Shell
from engine.terminal.tables import columns, pairs

__all__ = ["COMMANDS", "Command"]

DEFAULT = "default"
_DEFAULTS = {field.name: getattr(SearchOptions(), field.name) for field in fields(SearchOptions)}


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the shell.

    Attributes:
        argument: how the help names its argument, empty when it takes none.
        run: does it; raises `FouilleError` when the argument makes no sense.
        values: what its argument can be, for completion.
    """

    name: str
    argument: str
    help: str
    run: Callable[[Shell, str], None]
    values: Callable[[], Sequence[str]] = tuple


def _switch(text: str) -> bool:
    if text not in _on_off():
        raise InvalidOption(f"{text!r} is not one of on, off")
    return text == "on"


def _pair(text: str) -> Mapping[str, Sequence[str]]:
    return pairs_of([text])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, items in value.items() for item in items) or DEFAULT
    return DEFAULT if value is None else str(value)


def _option(
    name: str,
    argument: str,
    help_: str,
    read: Callable[[str], Any] | None = None,
    *,
    field: str = "",
    values: Callable[[], Sequence[str]] = tuple,
) -> Command:
    """A command that sets one search option: without an argument it shows it, `default` gives it back.

    What is also a setting is read as one.
    """
    field = field or name.replace("-", "_")
    read = read or partial(parse, field, where=f".{name}")

    def run(shell: Shell, text: str) -> None:
        current = getattr(shell.options, field)
        if text == DEFAULT:
            shell.options = replace(shell.options, **{field: _DEFAULTS[field]})
        elif text:
            value = read(text)
            if isinstance(value, Mapping):
                value = {**current, **{name: (*current.get(name, ()), *items) for name, items in value.items()}}
            shell.options = replace(shell.options, **{field: value})
        value = getattr(shell.options, field)
        own = shell.collection.memory.get(field) if value is None else None
        shown = _shown(value) if own is None else f"{_shown(value)}: {own}, the collection's"
        shell.say(f"{name} {sanitise_line(shown)}")

    return Command(name, argument, help_, run, lambda: [*values(), DEFAULT])


def _toggle(name: str, help_: str, field: str) -> Command:
    """A command that turns something on or off: without an argument it shows which."""

    def run(shell: Shell, text: str) -> None:
        if text:
            setattr(shell, field, _switch(text))
        shell.say(f"{name} {_shown(getattr(shell, field))}")

    return Command(name, "on|off", help_, run, _on_off)


def _on_off() -> Sequence[str]:
    return ("on", "off")


def _explain(shell: Shell, text: str) -> None:
    if text and text not in _on_off():
        shell.say("\n".join(fold(explain_hit(shell.hit(text)), shell.style.width)))
        return
    if text:
        shell.explained = _switch(text)
    shell.say(f"explain {_shown(shell.explained)}")


def _reranker(text: str) -> str:
    """A model's name, once it is seen to be at hand or to be had; else the next search would fail over it."""
    from engine.models.registry import fetch
    from engine.models.roles import check_reranker

    name: str = parse("reranker", text)
    check_reranker(fetch(name))
    return name


def _open(shell: Shell, text: str) -> None:
    from engine.terminal.viewer import view

    rank, _, how = text.partition(" ")
    hit = shell.hit(rank)
    found = shell.collection.document(hit.key)
    if found is None:
        raise InvalidOption("the document is gone", where=hit.key, hint="search again")
    if not shell.interactive:
        shell.say(sanitise(found.text))
        return
    line = sanitise(found.text[: hit.start]).count("\n") + 1
    in_editor = how.strip() == "editor"
    view(sanitise(found.text), line, shell.out, key=hit.key, width=shell.style.width, editor=in_editor)


def _collection(shell: Shell, text: str) -> None:
    if text:
        asked = filters(shell.options, ".")
        shell.switch(text)
        if asked:
            shell.complain(f"no longer asked: {' '.join(asked)}")
    shell.say(f"collection {sanitise_line(shell.collection.name)}")


def _info(shell: Shell, _: str) -> None:
    shell.say(pairs(shell.collection.info(), shell.style))


def _help(shell: Shell, _: str) -> None:
    rows = [(f".{command.name} {command.argument}".rstrip(), command.help) for command in COMMANDS.values()]
    about = "An option without a value shows it; the value `default` gives it back to the collection."
    shell.say("A line searches; a line that begins with a dot is a command:\n")
    shell.say(columns(rows, shell.style))
    shell.say("\n".join(["", *fold(about, shell.style.width)]))


def _quit(shell: Shell, _: str) -> None:
    shell.finished = True


_TABLE = (
    _option("k", "N", "hits to show"),
    _option("candidates", "N", "passages that the reranker reads"),
    _option("first-stage", "STAGE", "bm25, dense or hybrid", values=lambda: get_args(FirstStage)),
    _option("rerank", "on|off", "let the cross-encoder order the candidates", _switch, values=_on_off),
    _option("reranker", "MODEL", "the cross-encoder", _reranker, values=lambda: model_names("cross-encoder")),
    _option("interpolate", "W", "weight of the first stage beside the cross-encoder"),
    _option("k1", "X", "BM25: how soon a repeated word counts no more"),
    _option("b", "X", "BM25: how much long passages pay"),
    _option("in", "GLOB", "only documents whose key matches", typed, field="keys"),
    _option("where", "KEY=VALUE", "only documents with this metadata; adds up", _pair),
    _option("per-document", "N", "hits from one document at most", partial(parse, "k", where=".per-document")),
    _option("long-passages", "HOW", "truncate or maxp", values=lambda: get_args(LongPassages)),
    Command("explain", "RANK|on|off", "where a hit's place comes from, or those of every search", _explain, _on_off),
    Command("open", "RANK [editor]", "the hit's document in $PAGER, or a copy in $EDITOR", _open),
    _toggle("full", "whole passages, not excerpts", "full"),
    _toggle("timing", "where the time went", "timed"),
    Command("collection", "NAME", "search another collection", _collection, collection_names),
    Command("info", "", "what the collection holds", _info),
    Command("help", "", "this list", _help),
    Command("quit", "", "leave (Ctrl-D does too)", _quit),
)

COMMANDS: Mapping[str, Command] = {command.name: command for command in _TABLE}

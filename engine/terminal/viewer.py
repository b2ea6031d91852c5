"""A document's text in the user's pager or editor."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from engine.errors import InvalidOption
from engine.terminal.render import fold

__all__ = ["view"]

# Programs that take `+LINE` ahead of the file.
_AT_LINE = frozenset({"emacs", "less", "micro", "nano", "nvim", "vi", "view", "vim"})


# Letters of any script take at most four bytes, and a file's name 255.
_LONGEST_NAME = 60


def view(text: str, line: int, out: IO[str], *, key: str, width: int, editor: bool = False) -> None:
    """Show `text` from `line` on (counted from 1) in `$PAGER`, or a read-only copy of it in `$VISUAL` or `$EDITOR`.

    A pager gets it folded to `width` columns, between words; without a pager it is written to `out`. The copy is named
    after the last part of the document's `key`, in a folder of its own, and is gone when the program ends.

    Raises:
        InvalidOption: the variable is unset or names nothing that can be run.
    """
    variables = ("VISUAL", "EDITOR") if editor else ("PAGER",)
    command = next((found for name in variables if (found := os.environ.get(name))), None)
    if command is None and not editor:
        command = next(filter(shutil.which, ("less", "more")), None)
    if not editor:
        text, line = _fold(text, line, width)
    if command is None:
        if editor:
            raise InvalidOption("no editor is set", where="$EDITOR", hint="export EDITOR=nano")
        out.write(f"{text}\n")
        return
    with tempfile.TemporaryDirectory(prefix="fouille-") as folder:
        copy = Path(folder, _safe_name(key))
        copy.write_text(text, encoding="utf-8")
        copy.chmod(0o400)
        _run(command, copy, line)


def _safe_name(key: str) -> str:
    """A text file's name for a document: no path, nothing that a program or a shell reads as more than a name.

    It ends in .txt whatever the document was, or a pager's filters would take the text for a PDF.
    """
    name = re.sub(r"[^\w.-]+", "_", key.rpartition("/")[2]).strip("._-").removesuffix(".txt")
    return f"{name[:_LONGEST_NAME] or 'document'}.txt"


def _fold(text: str, line: int, width: int) -> tuple[str, int]:
    """The text with its long lines folded, and where the line that was `line` now begins."""
    lines = [fold(one, width) for one in text.split("\n")]
    return "\n".join(part for parts in lines for part in parts), sum(map(len, lines[: line - 1])) + 1


def _run(command: str, copy: Path, line: int) -> None:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words or shutil.which(words[0]) is None:
        raise InvalidOption(f"{command!r} cannot be run", where="$PAGER or $EDITOR", hint="set it to a program")
    place = [f"+{line}"] if Path(words[0]).name in _AT_LINE else []
    # Ctrl-C belongs to the program while it runs. A handler, unlike SIG_IGN, is not handed down to it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run([*words, *place, str(copy)], check=False)  # noqa: S603 - the user's own choice of program
    finally:
        signal.signal(signal.SIGINT, before)

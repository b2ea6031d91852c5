"""An exception as the one line that a person reads."""

from engine.errors import FouilleError

__all__ = ["line_of"]


def line_of(error: Exception, command: str | None = None) -> str:
    """What a person reads of an error that ended `command`, None where none had begun."""
    if isinstance(error, FouilleError):
        return str(error)
    if hasattr(error, "format_message"):  # Click's, for a wrong flag or argument; where its class lives changes
        return _usage(error, error.format_message(), command)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "out of memory (try smaller --batch-tokens or fewer --candidates)"
    return f"unexpected {type(error).__name__}: {error} (fouille --debug shows where)"


def _usage(error: Exception, message: str, command: str | None) -> str:
    context = getattr(error, "ctx", None)
    # Click's parser raises without a context where a flag lacks its value.
    path = context.command_path if context else f"fouille {command}" if command else "fouille"
    message = message.replace("Value error, ", "").rstrip(".")
    if "unexpected extra argument" in message and "(-" in message:  # after -- nothing is a flag
        message = f"{message}: flags go before --"
    elif path == "fouille search" and "unexpected extra argument" in message:
        message = f"{message}: put the question in quotes"
    elif "No such option" in message and not message.startswith("No such option: --"):
        message = f"{message}: what begins with a dash and is no flag goes last, after --"
    return f"{message} (see {path} --help)"

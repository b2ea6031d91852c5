"""Ctrl-C, put off for the moment that Python's own import machinery is at work.

A `KeyboardInterrupt` raised inside that machinery can be swallowed there (it works in the callbacks of weak references)
and leave the lock over all imports taken. Models are loaded in a thread, which imports too: both would wait for ever.
"""

import signal
import threading
from types import FrameType

__all__ = ["interrupt", "put_off_in_imports"]

_MACHINERY = "<frozen importlib._bootstrap>"
_LATER = 0.01
"""Seconds until the signal is given again; a step of the machinery takes far less."""


def put_off_in_imports() -> None:
    """Take SIGINT over from Python's own handler, in the thread that gets signals; any other handler stays."""
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, or come again where the import machinery was interrupted."""
    if frame is None or frame.f_code.co_filename != _MACHINERY:
        raise KeyboardInterrupt
    # The signal itself, not `interrupt_main`, which would not wake a thread that waits for the other's import.
    again = threading.Timer(_LATER, signal.pthread_kill, (threading.main_thread().ident, number))
    again.daemon = True
    again.start()

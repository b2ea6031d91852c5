"""Ctrl-C in the middle of an import."""

import signal
import subprocess
import sys
import threading
from types import FrameType

import pytest

from engine.terminal import interrupts

_IMPORTING = """
import signal, sys, time
from engine.terminal.interrupts import put_off_in_imports

put_off_in_imports()


class Interrupting:
    \"\"\"Asked for a module, sends Ctrl-C as if the import machinery itself, which asks, had been interrupted.\"\"\"

    def find_spec(self, name, path, target=None):
        if name == "colorsys":
            signal.getsignal(signal.SIGINT)(signal.SIGINT, sys._getframe(1))
            print("put off", flush=True)


sys.meta_path.insert(0, Interrupting())
try:
    import colorsys

    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_in_the_import_machinery_an_interrupt_comes_a_moment_later() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTING], capture_output=True, text=True, timeout=25, check=False)
    assert done.stdout.split() == ["put", "off", "interrupted"], done.stderr


def test_elsewhere_an_interrupt_is_raised_at_once() -> None:
    frame: FrameType = sys._getframe()
    with pytest.raises(KeyboardInterrupt):
        interrupts.interrupt(signal.SIGINT, frame)


def test_a_handler_that_is_not_python_s_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupts.put_off_in_imports()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        elsewhere = threading.Thread(target=interrupts.put_off_in_imports)
        elsewhere.start()
        elsewhere.join()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        interrupts.put_off_in_imports()
        assert signal.getsignal(signal.SIGINT) is interrupts.interrupt
    finally:
        signal.signal(signal.SIGINT, before)

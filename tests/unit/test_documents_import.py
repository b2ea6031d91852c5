"""What importing the room costs."""

import subprocess
import sys

HEAVY = ("lxml", "pypdfium2", "charset_normalizer", "pathspec", "numpy", "torch", "zipfile")


def test_importing_the_room_loads_no_library_of_a_format() -> None:
    code = f"import engine.documents, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"

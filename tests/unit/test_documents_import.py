"""What importing the room costs."""

import subprocess
import sys

HEAVY = ("lxml", "pypdfium2", "charset_normalizer", "pathspec", "numpy", "torch", "zipfile")


def test_importing_the_room_loads_no_library_of_a_format() -> None:
    code = "import engine.documents as room, sys; [getattr(room, name) for name in room.__all__]\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"

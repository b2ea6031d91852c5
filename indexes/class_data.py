"""stub"""

from pathlib import Path


def prepare(folder: Path, java: Path, jar: Path, options: list[str]) -> Path | None:
    return None

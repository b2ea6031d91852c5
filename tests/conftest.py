"""What every test needs: no hub, no folder of the user's, the real French data where it lies beside the repository."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _folders_of_the_tests(tmp_path_factory):
    """Collections, cache, config and hub cache of the tests stay out of the user's own folders."""
    base = tmp_path_factory.mktemp("folders")
    patch = pytest.MonkeyPatch()
    for kind in ("data", "cache", "config"):
        patch.setenv(f"FOUILLE_{kind.upper()}_DIR", str(base / kind))
    patch.setenv("HF_HOME", str(base / "hub"))
    for name in [name for name in os.environ if name.startswith("FOUILLE_") and not name.endswith("_DIR")]:
        patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real French text and weights; the test is skipped where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real French text and weights is not beside the repository")
    return SHARED

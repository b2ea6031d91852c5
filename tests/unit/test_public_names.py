"""The public names, where heavy libraries stay out, and the error tree."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine import errors

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "sentence_transformers", "jnius", "faiss", "pyserini", "rich", "numpy", "tokenizers")


def loaded(statement):
    """Which of the heavy libraries a fresh interpreter has loaded after a statement."""
    script = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_public_names_are_these():
    assert sorted(engine.__all__) == [
        "AddReport",
        "BiEncoder",
        "Collection",
        "CrossEncoder",
        "Document",
        "FouilleError",
        "Hit",
        "Passage",
        "SearchOptions",
        "SearchResult",
    ]


@pytest.mark.parametrize("name", engine.__all__)
def test_every_public_name_is_there_with_a_docstring(name):
    assert inspect.getdoc(getattr(engine, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Colection"):
        engine.Colection  # noqa: B018 - the access is the test


def test_importing_the_engine_loads_nothing_heavy():
    assert loaded("import engine") == set()


def test_opening_the_collection_module_loads_no_model_library_and_no_jvm():
    assert loaded("from engine import Collection") <= {"numpy"}


def test_help_loads_nothing_heavy():
    statement = "import cli\ntry:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass"
    assert loaded(statement) == set()


def test_every_error_is_of_one_tree_and_says_what_it_is_for():
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.FouilleError)
        assert error.__doc__


def test_an_error_is_one_line_that_says_where_and_what_to_do():
    error = errors.CollectionDamaged("two\nlines", where="a/b", hint="rebuild")
    assert str(error) == "a/b: two lines (rebuild)"

"""Which name a person may have meant."""

import pytest

from engine.terminal.suggestions import did_you_mean, meant

KEYS = ["docs/autre.md", "docs/table.csv#1", "docs/table.csv#2", "docs/tableau.md"]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("docs/table.csv", "docs/table.csv#1"),
        ("tableau.md", "docs/tableau.md"),
        ("docs/autr", "docs/autre.md"),
        ("DOCS/Tableu.md", "docs/tableau.md"),
        ("rien de tel", None),
        ("docs/zut", None),
    ],
)
def test_the_nearest_name_is_meant(wanted: str, name: str | None) -> None:
    assert meant(wanted, KEYS) == name


def test_of_very_many_names_only_the_plain_cases_are_looked_for() -> None:
    many = [f"docs/{number}.txt" for number in range(20_000)]
    assert meant("7.txt", many) == "docs/7.txt"
    assert meant("docs/7.txd", many) is None


def test_a_suggestion_is_a_question() -> None:
    assert did_you_mean("explian", ["explain"], mark=".") == "did you mean .explain?"
    assert did_you_mean("x", []) is None

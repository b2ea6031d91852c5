"""What a progress bar is told while a collection is written."""

import pytest

from engine import Collection, Document
from engine.documents import open_source


@pytest.mark.parametrize("kind", ["folder", "records"])
def test_reading_and_bm25_know_how_much_there_is_to_do(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("engine.indexing.TRANSACTION_DOCUMENTS", 2)
    monkeypatch.setattr("engine.indexing._TOLD_EVERY", float("inf"))  # on a busy machine it is told between as well
    source = tmp_path / ("docs" if kind == "folder" else "docs.jsonl")
    if kind == "folder":
        source.mkdir()
        for number in range(6):
            (source / f"{number}.txt").write_text(f"Texte {number}.", "utf-8")
    else:
        source.write_text(
            "".join(f'{{"_id": "{number}", "text": "Texte {number}."}}\n' for number in range(6)), "utf-8"
        )
    told = []
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        report = collection.update([open_source(str(source))], progress=lambda *what: told.append(what))
    assert [what[1:] for what in told if what[0] == "reading"] == [(2, 6), (4, 6), (6, 6)]
    assert [what[1:] for what in told if what[0] == "bm25"][-1] == (6, 6)
    assert all(seconds >= 0 for seconds in report.seconds.values())


def test_reading_is_told_of_while_a_transaction_fills(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.indexing._TOLD_EVERY", 0)
    told = []
    with Collection.create(tmp_path / "c", first_stage="bm25") as collection:
        collection.add((Document(str(n), "Texte.") for n in range(3)), progress=lambda *what: told.append(what))
    assert [what[1] for what in told if what[0] == "reading"] == [1, 2, 3, 3]


def test_standard_input_has_no_known_length():
    assert open_source("-").expected() is None

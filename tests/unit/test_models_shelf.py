"""What a search needs is begun ahead of time, and what cannot be had shows only where it is used."""

import gc
import sys
import threading

import pytest

from engine.models import shelf
from engine.settings import Settings


def prepared():
    shelf.Shelf.prepare()
    for thread in threading.enumerate():
        if thread.name == "torch-import":
            thread.join()


def test_torch_is_imported_once_and_without_the_collector(monkeypatch):
    asked = []
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(shelf, "import_module", lambda name: asked.append((name, gc.isenabled())))
    prepared()
    monkeypatch.setitem(sys.modules, "torch", object())
    prepared()
    assert asked == [("torch", False)]
    assert gc.isenabled()


def test_a_missing_torch_is_told_where_it_is_used_not_here(monkeypatch, capfd):
    def missing(name):
        raise ImportError(name)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(shelf, "import_module", missing)
    prepared()
    assert capfd.readouterr() == ("", "")
    assert gc.isenabled()


@pytest.mark.parametrize(("kind", "ask"), [("BiEncoder", "encoder"), ("CrossEncoder", "reranker")])
def test_a_model_takes_the_settings_once(monkeypatch, kind, ask):
    made = []
    monkeypatch.setattr(f"engine.models.{kind}", lambda *given, **named: made.append((given, named)) or object())
    monkeypatch.setattr(shelf.registry, "locate", lambda _: "somewhere")
    here = shelf.Shelf(Settings(device="cpu", precision="fp32", batch_tokens=512))
    assert getattr(here, ask)("modele") is getattr(here, ask)("modele")
    ((given, named),) = made
    assert given == ("modele", "cpu", "fp32")
    assert named["batch_tokens"] == 512

"""What a search needs is begun ahead of time, and what cannot be had shows only where it is used."""

import gc
import sys
import threading

from engine.models import shelf


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

"""What a search needs is begun ahead of time, and what cannot be had shows only where it is used."""

import gc
import threading
from types import SimpleNamespace

import pytest

from engine.errors import ModelDamaged
from engine.models import shelf
from engine.settings import Settings


@pytest.fixture
def models(monkeypatch):
    """What stands in for the models: names in the order in which they were loaded, with the thread that did it."""
    loaded, encoded = [], []

    def standing_in(kind):
        def load(name, *_, **__):
            loaded.append((kind, name, threading.current_thread().name, gc.isenabled()))
            if name == "broken":
                raise ModelDamaged("is cut short", where=name)
            return SimpleNamespace(name=name, encode_queries=encoded.append)

        return load

    for kind in ("BiEncoder", "CrossEncoder"):
        monkeypatch.setattr(f"engine.models.{kind}", standing_in(kind))
    monkeypatch.setattr(shelf.registry, "locate", lambda _: "somewhere")
    return loaded


def wait():
    for thread in threading.enumerate():
        if thread.name == "fouille-models":
            thread.join()


def test_models_are_loaded_once_in_a_thread_and_without_the_collector(models):
    here = shelf.Shelf(Settings())
    here.prepare("bi", "cross")
    assert (here.encoder("bi").name, here.reranker("cross").name) == ("bi", "cross")
    wait()
    here.prepare("bi", "cross")
    assert here.encoder("bi") is here.encoder("bi")
    assert [(kind, name) for kind, name, *_ in models] == [("BiEncoder", "bi"), ("CrossEncoder", "cross")]
    assert gc.isenabled()


def test_loading_ahead_takes_a_thread_of_its_own(models):
    shelf.Shelf(Settings()).prepare("bi", "cross")
    wait()
    assert [tuple(how) for _, _, *how in models] == [("fouille-models", False)] * 2


def test_nothing_to_load_starts_no_thread(models):
    here = shelf.Shelf(Settings())
    here.prepare(None, None)
    wait()
    assert not models


def test_a_model_that_cannot_be_loaded_is_told_where_it_is_used_not_ahead(models, capfd):
    here = shelf.Shelf(Settings())
    here.prepare("broken", "cross")
    wait()
    assert capfd.readouterr() == ("", "")
    assert gc.isenabled()
    assert here.reranker("cross").name == "cross"
    with pytest.raises(ModelDamaged, match="broken: is cut short"):
        here.encoder("broken")


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

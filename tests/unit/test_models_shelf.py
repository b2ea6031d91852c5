"""The shelf of models: a reranker begun ahead of time is loaded once, beside whatever else the search has to open."""

import threading
from types import SimpleNamespace

import pytest

import engine.models
from engine.errors import ModelDamaged, ModelNotFound
from engine.models.shelf import Shelf
from engine.records import SearchOptions
from engine.search import plan
from engine.settings import Settings

SECONDS = 60


class Reranker:
    """Stands in for a cross-encoder; knows the thread that loaded it."""

    default_interpolate = None
    default_candidates = None
    notices = ()

    def __init__(self, name, *_, **__):
        self.name, self.thread = name, threading.current_thread()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}", "utf-8")
    return str(tmp_path)


@pytest.fixture
def shelf(monkeypatch):
    monkeypatch.setattr(engine.models, "CrossEncoder", Reranker, raising=False)
    return Shelf(Settings())


def test_a_reranker_that_was_begun_is_loaded_by_another_thread(shelf, folder):
    shelf.begin_reranker(folder)
    assert shelf.reranker(folder).thread is not threading.current_thread()


def test_a_reranker_is_loaded_once_however_often_it_is_begun(shelf, folder):
    shelf.begin_reranker(folder)
    shelf.begin_reranker(folder)
    first = shelf.reranker(folder)
    shelf.begin_reranker(folder)
    assert shelf.reranker(folder) is first


def test_what_goes_wrong_while_loading_is_raised_where_the_reranker_is_asked_for(shelf, folder, monkeypatch):
    def broken(*_, **__):
        raise ModelDamaged("is cut short", where=folder)

    monkeypatch.setattr(engine.models, "CrossEncoder", broken)
    shelf.begin_reranker(folder)
    with pytest.raises(ModelDamaged, match="cut short"):
        shelf.reranker(folder)
    monkeypatch.setattr(engine.models, "CrossEncoder", Reranker)
    assert shelf.reranker(folder).name == folder


def test_a_model_that_does_not_lie_here_is_not_begun(shelf):
    shelf.begin_reranker("nobody/nothing")
    assert not shelf.at_hand("nobody/nothing")
    with pytest.raises(ModelNotFound):
        shelf.reranker("nobody/nothing")


def test_a_search_opens_its_indexes_while_the_reranker_loads(shelf, folder, monkeypatch):
    opened = threading.Event()

    class Waiting(Reranker):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.met_an_open_index = opened.wait(SECONDS)

    def indexes(_):
        opened.set()
        return []

    monkeypatch.setattr(engine.models, "CrossEncoder", Waiting)
    memory = {"first_stage": "bm25", "reranker": folder}
    reader = SimpleNamespace(memory=memory, shelf=shelf, indexes=indexes, has_bm25=True, has_dense=False)
    assert plan(reader, SearchOptions()).reranker.met_an_open_index

"""Where a setting comes from: flag, environment, config file, default."""

import sys

import pytest

from engine.errors import InvalidOption
from engine.settings import Settings, cache_dir, config_dir, data_dir, resolve


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUILLE_CONFIG_DIR", str(tmp_path))
    return tmp_path / "config.toml"


def test_without_platformdirs_the_folders_are_those_of_xdg(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.delenv("FOUILLE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "fouille"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "fouille"


def test_without_anything_the_defaults_hold(config):
    assert resolve() == Settings()


def test_the_config_file_beats_the_default(config):
    config.write_text("k = 3\n", "utf-8")
    assert resolve().k == 3


def test_the_environment_beats_the_config_file(config, monkeypatch):
    config.write_text("k = 3\n", "utf-8")
    monkeypatch.setenv("FOUILLE_K", "4")
    assert resolve().k == 4


def test_a_flag_beats_the_environment_and_none_is_no_flag(config, monkeypatch):
    monkeypatch.setenv("FOUILLE_K", "4")
    assert (resolve({"k": 5}).k, resolve({"k": None}).k) == (5, 4)


@pytest.mark.parametrize(
    ("line", "named"),
    [("k = 0", "k"), ('k = "dix"', "k"), ("b = 2.0", "b"), ('first_stage = "tfidf"', "first_stage"), ("kk = 1", "kk")],
)
def test_a_bad_line_of_the_config_file_is_named(config, line, named):
    config.write_text(line, "utf-8")
    with pytest.raises(InvalidOption, match=named):
        resolve()


def test_a_config_file_that_is_no_toml_is_an_error(config):
    config.write_text("k = = 3", "utf-8")
    with pytest.raises(InvalidOption, match=r"config\.toml"):
        resolve()


def test_a_bad_variable_is_named(config, monkeypatch):
    monkeypatch.setenv("FOUILLE_PRECISION", "fp8")
    with pytest.raises(InvalidOption, match="FOUILLE_PRECISION"):
        resolve()


def test_a_bare_name_lives_under_the_data_folder_and_a_path_where_it_says(tmp_path):
    assert Settings().collection_path("aide") == data_dir() / "collections" / "aide"
    assert Settings().collection_path(str(tmp_path / "aide")) == tmp_path / "aide"


@pytest.mark.parametrize("name", ["", "..", ".", "a\0b"])
def test_a_name_that_cannot_name_a_folder_is_refused(name):
    with pytest.raises(InvalidOption):
        Settings().collection_path(name)


def test_xdg_folders_hold_where_fouille_has_none_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("FOUILLE_CONFIG_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_dir() == tmp_path / "fouille"

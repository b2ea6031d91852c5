import json
import os
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from engine.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from engine.models import registry
from engine.settings import SHIPPED, Settings

NAME = "organisation/modele"


def write_model(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / weights).write_bytes(b"weights")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--organisation--modele"


def test_known_models_are_those_of_the_plan():
    assert set(registry.KNOWN) == {
        *SHIPPED,
        "Alibaba-NLP/gte-multilingual-base",
        "BAAI/bge-m3",
        "BAAI/bge-reranker-v2-m3",
        "OrdalieTech/Solon-embeddings-large-0.1",
        "Snowflake/snowflake-arctic-embed-l-v2.0",
        "antoinelouis/biencoder-camembert-base-mmarcoFR",
        "antoinelouis/biencoder-distilcamembert-mmarcoFR",
        "antoinelouis/crossencoder-camembert-base-mmarcoFR",
        "antoinelouis/crossencoder-distilcamembert-mmarcoFR",
        "antoinelouis/crossencoder-electra-base-french-mmarcoFR",
        "antoinelouis/crossencoder-mMiniLMv2-L12-mmarcoFR",
        "antoinelouis/crossencoder-mMiniLMv2-L6-mmarcoFR",
        "antoinelouis/crossencoder-me5-base-mmarcoFR",
        "intfloat/multilingual-e5-base",
        "intfloat/multilingual-e5-large",
        "intfloat/multilingual-e5-small",
    }
    assert registry.KNOWN["intfloat/multilingual-e5-small"].prompts == {"query": "query: ", "passage": "passage: "}
    assert registry.KNOWN["OrdalieTech/Solon-embeddings-large-0.1"].prompts["query"] == "query : "
    assert registry.KNOWN["antoinelouis/crossencoder-me5-base-mmarcoFR"].trained == 256


def test_default_models_are_known():
    settings = Settings()
    for encoder, reranker in ((settings.encoder_or_default, settings.reranker_or_default), SHIPPED):
        assert registry.KNOWN[encoder].kind == "bi-encoder"
        assert registry.KNOWN[reranker].kind == "cross-encoder"


def test_a_model_that_this_copy_ships_without_is_neither_listed_nor_looked_for_on_the_hub():
    assert not {model.name for model in registry.obtainable()} & set(SHIPPED)
    for name in SHIPPED:
        with pytest.raises(ModelNotFound, match="ships without it"):
            registry.fetch(name)


def test_a_folder_is_described_by_its_last_name():
    known = registry.describe("/srv/models/multilingual-e5-base")
    assert known is not None
    assert known.name == "intfloat/multilingual-e5-base"
    assert registry.describe("/srv/models/autre") is None


def test_a_folder_is_located(tmp_path):
    assert registry.locate(write_model(tmp_path / "m")) == tmp_path / "m"


def test_a_home_folder_is_located(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_model(tmp_path / "m")
    assert registry.locate("~/m") == tmp_path / "m"


def test_the_snapshot_of_main_is_located(hub):
    write_model(hub / "snapshots" / "ancien")
    chosen = write_model(hub / "snapshots" / "courant")
    write_model(hub / "snapshots" / "recent")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("courant")
    assert registry.locate(NAME) == chosen


def test_a_snapshot_is_located_without_refs(hub):
    assert registry.locate(NAME) is None
    only = write_model(hub / "snapshots" / "seul")
    assert registry.locate(NAME) == only


def test_an_interrupted_download_is_not_located(hub):
    folder = hub / "snapshots" / "partiel"
    write_model(folder, "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert registry.locate(NAME) is None
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"")
    assert registry.locate(NAME) == folder


def test_the_cache_follows_the_variables_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    folder = write_model(tmp_path / "hub" / "models--organisation--modele" / "snapshots" / "c")
    assert registry.locate(NAME) == folder


@pytest.mark.parametrize("name", ["../../etc", "a/../b", "a/b/c", "a--b/c", "", "/", ".", "org/.hidden"])
def test_no_path_is_built_from_a_name_that_is_none(name, hub, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    found = registry.locate(name)
    assert found is None or found.samefile(Path(name))


def test_a_missing_folder_is_told_at_once_with_the_ways_out():
    with pytest.raises(ModelNotFound, match=r"/nulle/part: no such model folder \(give the path .* --no-rerank"):
        registry.fetch("/nulle/part")


def test_a_missing_name_is_told_at_once_when_offline(hub):
    with pytest.raises(ModelNotFound, match=r"organisation/modele: not on this machine.*HF_HUB_OFFLINE"):
        registry.fetch(NAME)


def test_a_pickle_is_refused_and_named(tmp_path):
    with pytest.raises(ModelUnsupported, match=r"pytorch_model\.bin: a pickled checkpoint"):
        registry.fetch(write_model(tmp_path / "m", "pytorch_model.bin"))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, missing):
    folder = write_model(tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(ModelDamaged, match=re.escape(missing)):
        registry.fetch(folder)


def test_the_hash_follows_the_content(tmp_path):
    folder = write_model(tmp_path / "m")
    first = registry.model_hash(folder)
    assert registry.model_hash(write_model(tmp_path / "autre" / "m")) == first
    (folder / "model.safetensors").write_bytes(b"others!")
    assert registry.model_hash(folder) != first


def test_the_hash_reads_a_file_once(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "m")
    first = registry.model_hash(folder)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert registry.model_hash(folder) == first


def test_the_hash_does_without_a_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert len(registry.model_hash(write_model(tmp_path / "m"))) == 32


def test_nothing_heavy_is_imported():
    code = "import sys, engine.models.registry; print(*{'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


class Hub(BaseHTTPRequestHandler):
    """A hub with one model, whose folder is the class's."""

    files: ClassVar[dict[str, bytes]] = {}
    status = 200
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            tree = [{"type": "file", "path": name, "size": len(self.files[name]), "oid": "0"} for name in self.files]
            content = json.dumps(tree if "/tree/" in path else {"id": NAME, "sha": "c" * 40, "siblings": siblings})
            self.reply(self.status, content.encode(), body=body)
        else:
            name = path.partition(f"/resolve/{'c' * 40}/")[2]
            self.reply(200 if name in self.files else 404, self.files.get(name, b""), body=body)

    def reply(self, status, content, *, body):
        self.send_response(status)
        self.send_header("ETag", '"e"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(files, status=200):
        handler = type("OneHub", (Hub,), {"files": files, "status": status, "asked": []})
        servers.append(HTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch_from(endpoint: str, cache: Path) -> tuple[str, float]:
    """What `fetch` says in a process of its own (the hub's library reads its variables once), and its seconds."""
    code = f"""
import engine.models.registry as registry
from engine.errors import FouilleError
try:
    print(registry.fetch({NAME!r}))
except FouilleError as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache)}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip(), time.monotonic() - start


def test_an_unreachable_hub_is_given_up_at_once(tmp_path):
    said, seconds = fetch_from("http://127.0.0.1:9", tmp_path)
    assert said.startswith(f"ModelNotFound {NAME}: not on this machine, and the hub cannot be reached")
    assert seconds < 10


def test_a_name_that_the_hub_does_not_have_is_told(serve, tmp_path):
    endpoint, _ = serve({}, status=404)
    assert "no such model on the hub" in fetch_from(endpoint, tmp_path)[0]


def test_a_pickle_is_not_downloaded(serve, tmp_path):
    endpoint, hub = serve({"config.json": b"{}", "pytorch_model.bin": b"x"})
    said, _ = fetch_from(endpoint, tmp_path)
    assert said.startswith("ModelUnsupported")
    assert "only pytorch_model.bin" in said
    assert not any("resolve" in path for path in hub.asked)


def test_only_needed_files_are_downloaded(serve, tmp_path):
    wanted = {"config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}
    others = {"pytorch_model.bin", "onnx/model.onnx", "README.md", "onnx/config.json"}
    endpoint, _ = serve(dict.fromkeys(wanted | others, b"{}"))
    said, _ = fetch_from(endpoint, tmp_path)
    folder = Path(said)
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == wanted


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": ["a"]}', '{"weight_map": {"a": 5}}', "[" * 100_000])
def test_a_damaged_copy_in_the_cache_is_passed_over(tmp_path, monkeypatch, index):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--something"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(b"\xff\xfe")
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text(index)
    assert registry.locate("someone/something") is None


def test_a_model_s_misspelt_name_brings_a_suggestion():
    with pytest.raises(ModelNotFound, match=r"did you mean BAAI/bge-reranker-v2-m3\? Else give"):
        registry.fetch("bge-rerankr-v2-m3")
    with pytest.raises(ModelNotFound) as caught:
        registry.fetch("rien-de-tel")
    assert "did you mean" not in str(caught.value)

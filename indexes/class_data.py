"""The class-data archive: Lucene's classes as the JVM wants them in memory, so that a cold search takes half the time.

It is valid for one Java, one jar and one set of options, and is named after them. It is made once, in the background,
and kept in the cache folder; whatever goes wrong with it, Java works without. `python -m indexes.class_data` makes it
now.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["find", "make", "request"]

_STALE_SECONDS = 120
_RECORD = "--record"


def _key(java: Path, jar: Path, options: list[str]) -> str:
    """Names all that the archive depends on; the heap's size is not among it."""
    size, changed = jar.stat().st_size, jar.stat().st_mtime_ns
    parts = [str(java), (java / "release").read_text("utf-8", "replace"), str(jar), str(size), str(changed)]
    parts += [option for option in options if not option.startswith("-Xmx")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def find(folder: Path, java: Path, jar: Path, options: list[str]) -> Path | None:
    """The archive for this Java, jar and options, None where there is none or it is not as it was written."""
    try:
        archive = folder / f"lucene-{_key(java, jar, options)}.jsa"
        found = archive.stat()
        written = archive.with_suffix(".stat").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    # Java checks where an archive came from, not every byte of it; a file changed behind our back could crash it.
    return archive if written == f"{found.st_size} {found.st_mtime_ns}" else None


def request(folder: Path) -> None:
    """Start making the archive in a process of its own, without waiting for it."""
    lock = folder / "lucene.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                lock.unlink()
        lock.touch(exist_ok=False)
    except OSError:  # somebody else makes it, or the cache cannot be written: do without
        return
    try:
        maker = _spawn(folder)
    except OSError:
        lock.unlink(missing_ok=True)
        return
    # Somebody must collect the child, or Python warns of it.
    threading.Thread(target=maker.wait, name="class-data-archive", daemon=True).start()


def _spawn(*arguments: object) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path[1:]])}
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "indexes.class_data", *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
    )


def make(folder: Path, java: Path, jar: Path, options: list[str]) -> Path:
    """Make the archive: record which classes a small index and a search load, then dump them.

    Raises:
        OSError, subprocess.SubprocessError: it could not be made; nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"lucene-{_key(java, jar, options)}.jsa"
    with tempfile.TemporaryDirectory(dir=folder) as workshop:
        classes, fresh = Path(workshop, "classes.txt"), Path(workshop, "fresh.jsa")
        if _spawn(_RECORD, classes).wait(timeout=_STALE_SECONDS) != 0:
            raise subprocess.SubprocessError("recording the classes failed")
        command = [java / "bin" / "java", "-Xshare:dump", f"-XX:SharedClassListFile={classes}"]
        command += [f"-XX:SharedArchiveFile={fresh}", *options, "-cp", jar]
        subprocess.run(  # noqa: S603
            list(map(str, command)), check=True, capture_output=True, timeout=_STALE_SECONDS, stdin=subprocess.DEVNULL
        )
        found = fresh.stat()
        # Until its stat is written beside it, `find` passes over the archive.
        fresh.replace(archive)
        note = Path(workshop, "stat")
        note.write_text(f"{found.st_size} {found.st_mtime_ns}", "ascii")
        note.replace(archive.with_suffix(".stat"))
    for old in folder.glob("lucene-*.*"):
        if old.stem != archive.stem:
            old.unlink(missing_ok=True)
    return archive


def _record(classes: Path) -> None:
    """Index and search a little under a Java that writes down the classes it loads; does not return."""
    import jnius_config

    from indexes.analysis import DEFAULT_ANALYSIS
    from indexes.bm25 import BM25Index, BM25Writer
    from indexes.lucene import declare

    jnius_config.add_options(f"-XX:DumpLoadedClassList={classes}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for sequence in (1, 2):
            with BM25Writer(folder, DEFAULT_ANALYSIS) as writer:
                first = 300 * sequence
                writer.add(range(first, first + 300), [f"passage {number}, le cœur" for number in range(300)])
                writer.delete([first + 1])
                writer.commit(sequence)
        with BM25Index.open(folder, DEFAULT_ANALYSIS) as index:
            index.search("Où est le cœur du passage 12 ?", 100)
            index.search("passage", 10, below=500)
            index.refresh()
    # Java writes the end of its list only when it is Java that ends the process.
    declare("java/lang/System", exit="static (I)V").exit(0)


def _main() -> None:
    from engine.settings import cache_dir
    from indexes import jvm

    if _RECORD in sys.argv:
        _record(Path(sys.argv[-1]))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else cache_dir() / "java"
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        home, jar = jvm.java_home(), jvm.lucene_jar()
        make(folder, home.path, jar, jvm.options_for(home))
    finally:
        (folder / "lucene.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    _main()

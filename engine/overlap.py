"""Work in a thread beside the caller's own: the next thing made ahead of its turn, the last one finished behind it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

__all__ = ["ahead", "behind"]

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[tuple[Item, Made]]:
    """Each item with what is made of it, the next one being taken and made in a thread while the caller works.

    The first is made at once in the caller's thread, so that a single item costs no thread.
    """
    source = iter(items)
    first = list(islice(source, 2))
    if not first:
        return
    item, made = first[0], make(first[0])
    if len(first) == 1:
        yield item, made
        return
    rest = chain(first[1:], source)

    def following() -> list[tuple[Item, Made]]:
        return [(item, make(item)) for item in islice(rest, 1)]

    with ThreadPoolExecutor(1, thread_name_prefix="fouille-ahead") as thread:
        ready = [(item, made)]
        while ready:
            future = thread.submit(following)
            yield ready[0]
            ready = future.result()


@contextmanager
def behind(work: Callable[..., object]) -> Iterator[Callable[..., None]]:
    """A form of `work` that returns at once, one call at a time being done in a thread.

    What a call raises comes from the next one, or from the end of the block, which waits for what is under way unless
    Ctrl-C comes again.
    """
    under_way: list[Future[object]] = []

    def wait() -> None:
        while under_way:
            under_way.pop().result()

    def begin(*arguments: object) -> None:
        wait()
        under_way.append(thread.submit(work, *arguments))

    with ThreadPoolExecutor(1, thread_name_prefix="fouille-behind") as thread:
        yield begin
        wait()

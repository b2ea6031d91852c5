"""Work beside the caller's own: in order, no more than one thing early or late, and no fault lost."""

import threading

import pytest

from engine.overlap import ahead, behind

SECONDS = 5


def test_the_next_item_is_taken_and_made_while_one_is_worked_on():
    made = {number: threading.Event() for number in (1, 2, 3)}

    def items():
        for number in made:
            yield number
            made[number].set()  # asked for the next: this one is made

    found = []
    for item, result in ahead(items(), lambda number: number * 10):
        found.append((item, result))
        if item < 3:
            assert made[item].wait(SECONDS)
            assert threading.active_count() > 1
    assert found == [(1, 10), (2, 20), (3, 30)]


def test_nothing_is_made_further_ahead_than_the_next():
    made = []
    for item, _ in ahead(range(5), made.append):
        assert len(made) <= item + 2


def test_a_single_item_starts_no_thread():
    before = threading.active_count()
    assert list(ahead(["one"], lambda _: threading.active_count())) == [("one", before)]


def test_no_items_give_nothing():
    assert list(ahead([], str)) == []


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_fault_in_making_reaches_the_caller(bad):
    def make(item):
        if item == bad:
            raise ValueError("bad item")
        return item

    with pytest.raises(ValueError, match="bad item"):
        list(ahead([1, 2, 3], make))


def test_a_fault_in_what_is_read_reaches_the_caller():
    def items():
        yield from (1, 2)
        raise OSError("unreadable")

    found = []
    with pytest.raises(OSError, match="unreadable"):
        for item, _ in ahead(items(), str):
            found.append(item)
    assert found == [1, 2]


def test_work_is_done_behind_the_caller_in_order():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(number):
        begun.set()
        assert go_on.wait(SECONDS)
        done.append(number)

    with behind(work) as begin:
        begin(1)
        assert begun.wait(SECONDS)
        assert done == []
        go_on.set()
        begin(2)
        assert done[:1] == [1]
    assert done == [1, 2]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_fault_behind_the_caller_is_not_lost(calls):
    def work(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), behind(work) as begin:
        for number in range(calls):
            begin(number)


def test_what_is_under_way_ends_before_the_block_is_left_by_a_fault():
    begun, done = threading.Event(), []

    def work(number):
        begun.set()
        done.append(number)

    with pytest.raises(KeyboardInterrupt), behind(work) as begin:
        begin(1)
        assert begun.wait(SECONDS)
        raise KeyboardInterrupt
    assert done == [1]

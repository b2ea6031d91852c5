import numpy as np
import pytest

from engine.errors import DeviceError
from engine.models.batch import PackedBatch
from engine.models.planner import plan, run


class OutOfMemory(RuntimeError):
    pass


class FakeRuntime:
    """Answers each sequence with its first token; refuses batches of more than `memory` tokens."""

    device = "fake"
    most_tokens = None

    def __init__(self, memory=10**9, *, fails_late=False, fault=None, in_flight=2):
        self.memory, self.fails_late, self.fault, self.in_flight = memory, fails_late, fault, in_flight
        self.sizes: list[int] = []
        self.under_way = self.most_under_way = 0
        self.dropped = []

    def submit(self, batch):
        if self.fault is not None and self.sizes:
            raise self.fault
        self.sizes.append(len(batch.tokens))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if not self.fails_late:
            self._check(batch)
        return batch

    def collect(self, batch):
        self.under_way -= 1
        self._check(batch)
        return batch.tokens[batch.starts[:-1]].astype(np.float32)[:, None]

    def _check(self, batch):
        if len(batch.tokens) > self.memory:
            raise OutOfMemory

    def drop(self, batch):
        self.dropped.append(batch)

    def out_of_memory(self, error):
        return isinstance(error, OutOfMemory)


def pack_of(lengths):
    def pack(rows):
        counts = lengths[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return PackedBatch(np.repeat(rows, counts).astype(np.int32), None, starts, int(counts.max()))

    return pack


LENGTHS = np.array([3, 90, 17, 40, 5, 60, 1, 33], np.int64)


def test_batches_keep_the_budget_and_hold_every_row_once():
    batches = plan(LENGTHS, 100)
    assert all(LENGTHS[rows].sum() <= 100 for rows in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))


def test_the_longest_come_first():
    order = LENGTHS[np.concatenate(plan(LENGTHS, 100))]
    assert order.tolist() == sorted(LENGTHS, reverse=True)


def test_a_sequence_longer_than_the_budget_stands_alone():
    assert [rows.tolist() for rows in plan(np.array([500, 10]), 100)] == [[0], [1]]


def test_no_sequences_give_no_batches():
    assert plan(np.empty(0, np.int64), 100) == []
    assert run(FakeRuntime(), np.empty(0, np.int64), pack_of(LENGTHS), 100).shape == (0, 0)


@pytest.mark.parametrize("budget", [1, 50, 100, 10**6])
def test_results_come_back_in_order(budget):
    found = run(FakeRuntime(), LENGTHS, pack_of(LENGTHS), budget)
    assert found[:, 0].tolist() == list(range(len(LENGTHS)))


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_so_many_batches_are_under_way_as_the_runtime_wants(in_flight):
    runtime = FakeRuntime(in_flight=in_flight)
    found = run(runtime, LENGTHS, pack_of(LENGTHS), 1)
    assert found[:, 0].tolist() == list(range(len(LENGTHS)))
    assert runtime.most_under_way == in_flight


@pytest.mark.parametrize("fails_late", [False, True])
def test_lack_of_memory_halves_the_budget_and_goes_on(fails_late):
    runtime = FakeRuntime(memory=95, fails_late=fails_late)
    found = run(runtime, LENGTHS, pack_of(LENGTHS), 1000)
    assert found[:, 0].tolist() == list(range(len(LENGTHS)))
    assert runtime.sizes[0] == LENGTHS.sum()
    assert runtime.sizes[1] == 90  # 124, then 62, which the longest alone exceeds


def test_what_memory_was_seen_to_hold_is_remembered():
    runtime = FakeRuntime(memory=95)
    run(runtime, LENGTHS, pack_of(LENGTHS), 1000)
    runtime.sizes.clear()
    found = run(runtime, LENGTHS, pack_of(LENGTHS), 1000)
    assert found[:, 0].tolist() == list(range(len(LENGTHS)))
    assert max(runtime.sizes) <= 95


def test_lack_of_memory_for_one_sequence_is_an_error():
    with pytest.raises(DeviceError, match="fake: too little memory for a single sequence"):
        run(FakeRuntime(memory=80), LENGTHS, pack_of(LENGTHS), 1000)


def test_progress_counts_every_sequence_once():
    done: list[int] = []
    run(FakeRuntime(memory=100), LENGTHS, pack_of(LENGTHS), 1000, done.append)
    assert sum(done) == len(LENGTHS)


@pytest.mark.parametrize("fault", [ValueError("other"), KeyboardInterrupt()])
def test_other_faults_and_interrupts_pass_between_batches(fault):
    runtime = FakeRuntime(fault=fault)
    with pytest.raises(type(fault)):
        run(runtime, LENGTHS, pack_of(LENGTHS), 100)
    assert len(runtime.sizes) == 1


def test_batches_under_way_are_given_up_when_another_fails():
    class Interrupted(FakeRuntime):
        def collect(self, _batch):
            raise KeyboardInterrupt

    runtime = Interrupted(in_flight=3)
    with pytest.raises(KeyboardInterrupt):
        run(runtime, LENGTHS, pack_of(LENGTHS), 50)
    assert len(runtime.dropped) == 2

"""Offsets and ranges equal their plain definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.ragged import offsets_of, ranges

ROWS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=20)


@given(ROWS)
def test_offsets_say_where_each_row_begins_then_the_total(rows: list[tuple[int, int]]) -> None:
    lengths = [length for _, length in rows]
    found = offsets_of(lengths)
    assert found.tolist() == [sum(lengths[:row]) for row in range(len(rows) + 1)]
    assert found.dtype == np.int64
    assert offsets_of(np.array(lengths, np.int32)).tolist() == found.tolist()


@given(ROWS)
def test_ranges_stand_end_to_end(rows: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(rows, np.int64).reshape(-1, 2).T
    assert ranges(starts, lengths).tolist() == [at for start, length in rows for at in range(start, start + length)]
    assert ranges(7, lengths).tolist() == [at for _, length in rows for at in range(7, 7 + length)]

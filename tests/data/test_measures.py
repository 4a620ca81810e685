"""Time order against brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.measures import in_time_order


def longest(times: list[int]) -> int:
    for size in range(len(times), 0, -1):
        if any(list(c) == sorted(c) for c in combinations(times, size)):
            return size
    return 0


@given(st.lists(st.integers(-5, 5), max_size=9))
def test_as_few_rows_as_possible_go(times: list[int]) -> None:
    kept = np.array(times, dtype=np.int64)[in_time_order(np.array(times, dtype=np.int64))]
    assert (np.diff(kept) >= 0).all()
    assert kept.size == longest(times)


@pytest.mark.parametrize(
    ("times", "dropped"),
    [
        ([1, 2, 3], []),
        ([1, 2, 4, 3, 5], [3]),
        ([9, 1, 2, 3], [0]),
        ([1, 2, 3, 1], [3]),
        ([2, 1], [1]),
    ],
)
def test_which_rows_go(times: list[int], dropped: list[int]) -> None:
    assert np.flatnonzero(~in_time_order(np.array(times, dtype=np.int64))).tolist() == dropped

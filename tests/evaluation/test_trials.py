"""Everything tried is counted once, and short records are restated before they are pooled."""

import numpy as np
import pytest

from evaluation.trials import TrialSet, Tried, gather


def test_equal_keys_count_once_and_the_fuller_set_is_kept() -> None:
    bare, full = TrialSet("a", 2), TrialSet("a", 2, ((0.1, 100), (0.3, 100)))
    other = TrialSet("b", 3)
    expected = Tried(5, pytest.approx(0.02))  # variance of .1 and .3
    assert gather([bare, full, other], 100) == expected
    assert gather([other, full, bare, full], 100) == expected


def test_nothing_tried_is_nothing() -> None:
    assert gather([], 100) == Tried(0, 0.0)
    assert gather([TrialSet("a", 1, ((0.2, 50),))], 100) == Tried(1, 0.0)


def test_luck_of_short_records_pools_with_that_of_long_ones() -> None:
    """Sharpes of trials without skill vary by 1/n whatever the lengths of their records."""
    rng = np.random.default_rng(3)
    sets = []
    for number, length in enumerate([100, 400, 900] * 400):
        returns = rng.normal(size=length)
        sets.append(TrialSet(str(number), 1, ((float(returns.mean() / returns.std(ddof=1)), length),)))
    assert gather(sets, 900).variance == pytest.approx(1 / 900, rel=0.12)

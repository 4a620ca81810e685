"""Uniqueness weights against the published vector and a naive loop."""

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from models.weights import label_weights, uniqueness


def test_published_vector() -> None:
    weights = uniqueness(np.array([0, 2, 4]), np.array([2, 3, 5]), np.arange(6))
    assert weights.tolist() == pytest.approx([5 / 6, 3 / 4, 1.0])


def test_equals_a_loop_over_bars() -> None:
    rng = np.random.default_rng(3)
    starts = np.sort(rng.choice(80, 40, replace=False))
    ends = starts + rng.integers(1, 9, 40)
    alive = [np.sum((starts <= bar) & (ends >= bar)) for bar in range(100)]
    expected = [np.mean([1 / alive[b] for b in range(s, e + 1)]) for s, e in zip(starts, ends, strict=True)]
    np.testing.assert_allclose(uniqueness(starts, ends, np.arange(100)), expected, rtol=1e-12)


def test_a_label_off_the_bars_is_named() -> None:
    with pytest.raises(DataError, match="label 1 spans 3 to 99"):
        uniqueness(np.array([0, 3]), np.array([2, 99]), np.arange(6))


def spans(starts: list[int], ends: list[int]) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    days = pd.date_range("2020-01-01", periods=12, freq="D", tz="UTC")
    return pd.DataFrame({"t1": days[ends]}, index=days[starts]), days


def test_labels_weigh_by_uniqueness_or_alike() -> None:
    labels, days = spans([0, 2, 4], [2, 3, 5])
    assert label_weights(labels, days, "uniqueness").tolist() == pytest.approx([5 / 6, 3 / 4, 1.0])
    assert label_weights(labels, days, "equal").tolist() == [1.0, 1.0, 1.0]


def test_a_label_without_a_side_weighs_nothing_and_shares_nobodys_bars() -> None:
    labels, days = spans([0, 1, 2, 3, 4], [2, 6, 3, 9, 5])
    labels["side"] = [1.0, 0.0, -1.0, 0.0, 1.0]
    weights = label_weights(labels, days, "uniqueness")
    assert weights.tolist() == pytest.approx([5 / 6, 0.0, 3 / 4, 0.0, 1.0])
    assert label_weights(labels, days, "equal").tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_no_side_at_all_weighs_nothing() -> None:
    labels, days = spans([0, 1], [2, 3])
    assert label_weights(labels.assign(side=0.0), days, "uniqueness").tolist() == [0.0, 0.0]

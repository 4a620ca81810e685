"""Uniqueness weights against the published vector and a naive loop."""

import numpy as np
import pytest

from core.errors import DataError
from models.weights import uniqueness


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

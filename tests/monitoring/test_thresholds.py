import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import wasserstein_distance

from core.errors import DataError
from monitoring.thresholds import (
    benjamini_hochberg,
    block_null,
    jensen_shannon,
    psi,
    psi_bound,
    wasserstein,
)

P = np.full(10, 0.1)
Q = np.array([0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.15, 0.15])


def test_psi_vector() -> None:
    assert psi(P, Q) == pytest.approx(0.109861, abs=1e-6)


def test_jensen_shannon_vector_base_2() -> None:
    assert jensen_shannon(P, Q) == pytest.approx(0.139707, abs=1e-6)


@given(hnp.arrays(float, 8, elements=st.floats(0.01, 10)), hnp.arrays(float, 8, elements=st.floats(0.01, 10)))
def test_distances_are_symmetric_and_not_negative(p: np.ndarray, q: np.ndarray) -> None:
    assert psi(p, q) == pytest.approx(psi(q, p))
    assert psi(p, q) >= 0
    assert 0 <= jensen_shannon(p, q) <= 1 + 1e-12
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("bad", [[0.0, 1.0], [-0.1, 1.1]])
def test_psi_refuses_empty_and_negative_bins(bad: list[float]) -> None:
    with pytest.raises(DataError):
        psi(np.array(bad), np.array([0.5, 0.5]))


@pytest.mark.parametrize(("rows", "measured"), [(100, 0.360), (1000, 0.033)])
def test_psi_bound_is_the_95th_percentile_without_drift(rows: int, measured: float) -> None:
    assert psi_bound(rows, rows, bins=10) == pytest.approx(measured, rel=0.07)


def test_benjamini_hochberg_is_the_papers_example() -> None:
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert benjamini_hochberg(p).tolist() == [True] * 4 + [False] * 11


def test_benjamini_hochberg_keeps_order_and_takes_nothing() -> None:
    assert benjamini_hochberg([0.9, 0.001]).tolist() == [False, True]
    assert benjamini_hochberg([]).tolist() == []


def test_wasserstein_equals_scipy_column_by_column_without_nan() -> None:
    rng = np.random.default_rng(3)
    past, now = rng.normal(size=(300, 4)), rng.normal(0.3, 2, size=(90, 4))
    past[:, 3] = np.round(past[:, 3])
    past[rng.random((300, 4)) < 0.1] = np.nan
    now[rng.random((90, 4)) < 0.1] = np.inf
    for column, value in enumerate(wasserstein(now, past)):
        a, b = (x[np.isfinite(x[:, column]), column] for x in (past, now))
        assert value == pytest.approx(wasserstein_distance(a, b) / np.std(a), rel=1e-12)


def test_wasserstein_of_a_constant_column_uses_the_floor() -> None:
    assert wasserstein(np.full((5, 1), 2.0), np.full((9, 1), 1.0)) == pytest.approx(1000.0)


def test_block_null_is_each_block_against_the_rest() -> None:
    rows = np.random.default_rng(5).normal(size=(60, 2)).cumsum(axis=0)
    null = block_null(rows, 24)
    second = wasserstein(rows[2:26], np.delete(rows, np.s_[2:26], axis=0))
    assert null.distances.shape == (19, 2)
    np.testing.assert_allclose(null.distances[1], second, rtol=1e-12)
    assert (null.thresholds(1.0) == null.distances.max(axis=0)).all()
    assert 0 < null.usual_share(0.9) <= 1


def test_block_null_names_the_rows_it_needs() -> None:
    with pytest.raises(DataError, match=r"at least 100 reference rows.*99 found"):
        block_null(np.zeros((99, 1)), 50)

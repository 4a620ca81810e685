import numpy as np
import pytest
from scipy import stats

from core.errors import DataError
from evaluation.comparison import NegativeVariance, better, diebold_mariano

E1 = np.array([0.5, -0.2, 0.8, -0.4, 0.1, 0.9, -0.7, 0.3, -0.6, 0.2]) ** 2
E2 = np.array([0.3, -0.1, 0.4, -0.6, 0.2, 0.5, -0.2, 0.4, -0.3, 0.1]) ** 2


@pytest.mark.parametrize(
    ("horizon", "dm", "hln", "p"),
    [(1, 2.150385, 2.040034, 0.071761), (2, 3.080252, 2.613680, 0.028101)],
)
def test_vector(horizon, dm, hln, p):
    test = diebold_mariano(E1, E2, horizon=horizon)
    assert (test.dm, test.hln, test.p_value) == pytest.approx((dm, hln, p), abs=5.1e-7)
    assert test.p_second_better == pytest.approx(p / 2, abs=5.1e-7)


def test_one_step_test_is_the_paired_t_test():
    test = diebold_mariano(E1, E2)
    # HLN at horizon 1 scales by (n−1)/n, which turns the population variance into the sample's
    assert test.hln == pytest.approx(stats.ttest_rel(E1, E2).statistic)


def test_swapping_the_forecasts_swaps_the_sign():
    one, other = diebold_mariano(E1, E2), diebold_mariano(E2, E1)
    assert (one.hln, one.p_second_better) == pytest.approx((-other.hln, 1 - other.p_second_better))


def test_equal_forecasts():
    test = better(E1, E1, horizon=3)
    assert (test.difference, test.hln, test.p_second_better) == (0, 0, 1)


def test_constant_advantage_is_certain():
    assert diebold_mariano(np.full(8, 0.7), np.full(8, 0.5)).p_second_better == 0


def test_negative_variance_is_an_error_and_better_falls_back():
    d = np.tile([1.0, -1.0], 20) + 0.01
    with pytest.raises(NegativeVariance, match="bartlett"):
        diebold_mariano(d, np.zeros(40), horizon=2)
    assert np.isfinite(better(d, np.zeros(40), horizon=2).hln)


def test_size_under_overlap():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 304))
    overlapped = sum(noise[:, k : k + 300] for k in range(5))
    zero = np.zeros(300)
    rejected = np.mean([better(row, zero, horizon=5).p_second_better < 0.05 for row in overlapped])
    naive = np.mean([better(row, zero).p_second_better < 0.05 for row in overlapped])
    assert rejected < 0.09 < naive


@pytest.mark.parametrize(
    ("first", "second", "horizon", "message"),
    [
        (E1, E2[:5], 1, "two equal series"),
        (E1, np.where(E2 > 0.2, np.nan, E2), 1, "NaN"),
        (E1, E2, 10, "horizon < rows"),
        (E1, E2, 0, "1 <= horizon"),
    ],
)
def test_refusals(first, second, horizon, message):
    with pytest.raises(DataError, match=message):
        diebold_mariano(first, second, horizon=horizon)

import numpy as np
import purgedcv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from evaluation import overfitting as o
from evaluation import performance

DAILY = 2.5 / 250**0.5
M = np.array(
    [
        [0.01, -0.02, 0.03],
        [0.02, 0.01, -0.01],
        [-0.01, 0.02, 0.01],
        [0.03, -0.01, 0.02],
        [-0.02, 0.03, 0.01],
        [0.01, 0.01, -0.03],
        [0.02, -0.02, 0.02],
        [-0.01, 0.03, 0.01],
    ]
)


@pytest.mark.parametrize(("skew", "kurtosis", "expected"), [(-2.448, 10.164, 0.9134), (0, 3, 0.9817)])
def test_psr_vector(skew, kurtosis, expected):
    assert o.psr(0.458, 24, skew, kurtosis) == pytest.approx(expected, abs=5.1e-5)


def test_psr_traps():
    assert o.psr(0.458, 24, -2.448, 10.164 - 3) == pytest.approx(0.92, abs=0.02)
    assert o.psr(0.458, 24, -2.448, 10.164 - 3) != pytest.approx(0.9134, abs=1e-3)


@pytest.mark.parametrize(("periods", "expected"), [(250, 682.80), (52, 147.10), (12, 38.88)])
def test_min_trl_vector(periods, expected):
    assert o.min_trl(2 / periods**0.5, 1 / periods**0.5) == pytest.approx(expected, abs=0.0051)


def test_min_trl_with_fat_tails():
    value = o.min_trl(2 / 12**0.5, 1 / 12**0.5, skew=-0.72, kurtosis=5.78)
    assert value == pytest.approx(59.90, abs=0.0051)
    assert o.psr(2 / 12**0.5, 60, -0.72, 5.78, 1 / 12**0.5) >= 0.95


def test_min_trl_of_a_sharpe_not_above_the_benchmark():
    with pytest.raises(DataError, match="no track record is long enough"):
        o.min_trl(0.1, 0.1)


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "expected"),
    [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)],
)
def test_dsr_vector(trials, skew, kurtosis, expected):
    value = o.dsr(DAILY, 1250, skew, kurtosis, trials=trials, variance=0.002)
    assert value == pytest.approx(expected, abs=5.1e-5)


def test_expected_max_sharpe():
    assert o.expected_max_sharpe(0.002, 100) == pytest.approx(0.1132, abs=5e-5)
    assert o.expected_max_sharpe(0.002, 1) == 0
    assert o.dsr(DAILY, 1250, trials=1, variance=0.002) == o.psr(DAILY, 1250)
    rng = np.random.default_rng(0)
    assert rng.normal(size=(4000, 50)).max(axis=1).mean() == pytest.approx(
        o.expected_max_sharpe(1.0, 50), abs=0.05
    )
    for bad in [(0.002, 0), (-1.0, 5), (float("nan"), 5)]:
        with pytest.raises(DataError, match="at least 1 trial"):
            o.expected_max_sharpe(*bad)


def test_impossible_moments():
    with pytest.raises(DataError, match="raw kurtosis is at least"):
        o.psr(0.9, 100, skew=3.0, kurtosis=0.0)
    with pytest.raises(DataError, match="at least 2"):
        o.psr(0.1, 1)


def test_against_purgedcv():
    r = np.random.default_rng(4).standard_t(4, 400) * 0.01 + 0.0008
    # purgedcv divides by n, not n − 1, and corrects its moments for small samples
    sharpe = float(r.mean() / r.std())
    skew, kurtosis = performance.skew(r), performance.kurtosis(r)
    assert o.psr(sharpe, 400, skew, kurtosis, 0.02) == pytest.approx(
        purgedcv.probabilistic_sharpe_ratio(r, 0.02), rel=1e-4
    )
    assert o.dsr(sharpe, 400, skew, kurtosis, trials=30, variance=0.001) == pytest.approx(
        purgedcv.deflated_sharpe_ratio(r, 30, 0.001), rel=1e-4
    )
    length = purgedcv.min_track_record_length(0.1, 0.02, 0.05, skew, kurtosis)
    assert np.ceil(o.min_trl(0.1, 0.02, 0.05, skew, kurtosis)) == length


@pytest.mark.parametrize(("blocks", "logits"), [(4, [-1.0986] * 4 + [0] * 2), (2, [-1.0986, 0])])
def test_pbo_vector(blocks, logits):
    result = o.pbo(M, blocks)
    np.testing.assert_allclose(np.sort(result.logits), logits, atol=5e-5)
    assert result.probability == 1.0


@pytest.mark.parametrize(("rows", "count", "blocks"), [(160, 7, 8), (203, 30, 10), (64, 2, 6)])
def test_pbo_against_purgedcv(rows, count, blocks):
    returns = np.random.default_rng(rows).normal(0.001, 0.01, (rows, count))
    ours = o.pbo(returns, blocks)
    theirs = purgedcv.probability_of_backtest_overfitting(returns.T, blocks)
    np.testing.assert_allclose(np.sort(ours.logits), np.sort(theirs.logits), atol=1e-12)
    # purgedcv counts a logit of exactly 0 as not overfit
    assert theirs.pbo == (ours.logits < 0).mean()
    assert ours.probability == (ours.logits <= 0).mean()


def test_pbo_sees_skill():
    returns = np.random.default_rng(0).normal(0, 0.01, (1000, 20))
    returns[:, 3] += 0.003
    assert o.pbo(returns, 10).probability < 0.01


def test_pbo_of_a_strategy_that_never_moves():
    returns = np.random.default_rng(0).normal(0, 0.01, (100, 4))
    returns[:, 1] = 0.3
    result = o.pbo(returns, 4)
    assert np.isfinite(result.logits).all()
    theirs = purgedcv.probability_of_backtest_overfitting(returns.T, 4)
    np.testing.assert_allclose(np.sort(result.logits), np.sort(theirs.logits), atol=1e-12)


@pytest.mark.parametrize(
    ("returns", "blocks", "message"),
    [
        (np.zeros((10, 1)), 4, "2 strategies or more"),
        (np.zeros(10), 4, "2 strategies or more"),
        (np.zeros((10, 2)), 3, "even number of blocks"),
        (np.zeros((10, 2)), 6, "even number of blocks"),
        (np.full((10, 2), np.nan), 4, "NaN or infinity"),
    ],
)
def test_pbo_refusals(returns, blocks, message):
    with pytest.raises(DataError, match=message):
        o.pbo(returns, blocks)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_pbo_sees_neither_the_scale_nor_the_order_of_the_strategies(seed):
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (120, 6))
    first = o.pbo(returns, 6).logits
    # powers of two leave every digit as it is
    np.testing.assert_allclose(o.pbo(returns * 2.0 ** rng.integers(-3, 4, 6), 6).logits, first)
    np.testing.assert_allclose(o.pbo(returns[:, rng.permutation(6)], 6).logits, first)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 0.4), st.integers(10, 2000), st.floats(-1, 1), st.floats(3, 10))
def test_probabilistic_sharpe_grows_with_the_record_and_min_trl_is_where_it_arrives(
    sharpe, n, skew, kurtosis
):
    assert o.psr(sharpe, n, skew, kurtosis) <= o.psr(sharpe, n + 1, skew, kurtosis)
    assert o.psr(sharpe, n, skew, kurtosis, 0.1) <= o.psr(sharpe, n, skew, kurtosis, 0.05)
    needed = o.min_trl(sharpe, skew=skew, kurtosis=kurtosis)
    ceiling = max(2, int(np.ceil(needed)))
    assert o.psr(sharpe, ceiling, skew, kurtosis) >= 0.95 - 1e-12
    if needed > 3:
        assert o.psr(sharpe, ceiling - 1, skew, kurtosis) < 0.95 + 1e-12

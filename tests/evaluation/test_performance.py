import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.errors import DataError
from evaluation import performance

R = [0.01, -0.02, 0.015, 0.003, -0.01, 0.02, -0.005, 0.007, -0.012, 0.009]


@pytest.fixture(scope="module")
def index_returns() -> np.ndarray:
    from arch.data import sp500

    return sp500.load()["Adj Close"].pct_change().dropna().to_numpy()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("n", 5030),
        ("sharpe", 0.282739),
        ("cagr", 0.036396),
        ("volatility", 0.190982),
        ("sortino", 0.398614),
        ("calmar", 0.064104),
        ("max_drawdown", -0.567754),
        ("omega", 1.054489),
        ("tail_ratio", 0.934622),
        ("var_05", -0.018643),
        ("cvar_05", -0.028609),
        ("gaussian_var_05", -0.019575),
        ("gaussian_cvar_05", -0.024602),
        ("skew", -0.0205),
        ("kurtosis", 11.336),
        ("psr", 0.89658),
        ("ulcer", 0.202611),
        ("win_rate", 0.53153),
    ],
)
def test_index_vector(index_returns, name, expected):
    digits = len(str(expected).partition(".")[2])
    assert performance.summary(index_returns, 252)[name] == pytest.approx(expected, abs=0.51 * 10**-digits)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sharpe", 2.087527),
        ("sortino", 3.299409),
        ("calmar", 25.273381),
        ("omega", 1.361702),
        ("tail_ratio", 1.082317),
        ("max_drawdown", -0.02),
        ("cagr", 0.505468),
        ("volatility", 0.205219),
    ],
)
def test_ten_returns_vector(name, expected):
    assert performance.summary(R, 252)[name] == pytest.approx(expected, abs=5.1e-7)


def test_ten_returns_tails():
    assert performance.value_at_risk(R, 0.1) == pytest.approx(-0.0128)
    assert performance.expected_shortfall(R, 0.1) == pytest.approx(-0.02)


def test_moments_against_scipy(index_returns):
    assert performance.skew(index_returns) == pytest.approx(stats.skew(index_returns))
    raw = stats.kurtosis(index_returns, fisher=False)
    assert performance.kurtosis(index_returns) == pytest.approx(raw)


@settings(deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=60))
def test_laws(returns):
    equity, depth = performance.equity(returns), performance.drawdown(returns)
    assert equity[-1] == pytest.approx(np.prod(1 + np.array(returns)))
    assert ((depth <= 0) & (depth > -1)).all()
    assert performance.max_drawdown(returns) <= min(0, min(returns)) + 1e-12
    assert performance.expected_shortfall(returns) <= performance.value_at_risk(returns) + 1e-15


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 4))
def test_ratios_see_neither_scale_nor_order(seed, scale):
    rng = np.random.default_rng(seed)
    r = rng.normal(0.001, 0.01, 50)
    for ratio in (performance.sharpe, performance.sortino, performance.omega, performance.tail_ratio):
        assert ratio(scale * r) == pytest.approx(ratio(r))
        assert ratio(rng.permutation(r)) == pytest.approx(ratio(r))
    assert performance.max_drawdown(2 * r) <= performance.max_drawdown(r)
    assert performance.sharpe(-r) == pytest.approx(-performance.sharpe(r))


def test_a_loss_in_the_first_period_is_a_drawdown():
    assert performance.max_drawdown([-0.1, 0.2]) == pytest.approx(-0.1)


def test_what_is_undefined_is_said_so():
    flat = performance.summary(np.zeros(10), 252)
    assert np.isnan(
        [flat[name] for name in ("sharpe", "sortino", "calmar", "omega", "win_rate", "psr")]
    ).all()
    assert flat["max_drawdown"] == 0
    assert performance.omega([0.01, 0.02]) == float("inf")
    assert np.isnan(performance.sharpe([0.1] * 7))


def test_everything_lost():
    assert performance.cagr([0.1, -1.0, 0.0], 252) == -1
    assert performance.max_drawdown([0.1, -1.0, 0.0]) == -1


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ([0.01, np.nan], "return nan at row 1"),
        ([np.inf, 0.01], "return inf at row 0"),
        ([0.01], "2 returns or more"),
        ([[0.01, 0.02]], "one series"),
        ([0.5, -1.5], "are these percentages"),
    ],
)
def test_refusals(returns, message):
    with pytest.raises(DataError, match=message):
        performance.sharpe(returns)

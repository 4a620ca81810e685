import numpy as np
import pytest

from core.errors import DataError
from evaluation.bootstrap import block_length, intervals


def mean(sample: np.ndarray) -> np.ndarray:
    return sample.mean(axis=0)


def autoregression(seed: int, n: int, phi: float = 0.3) -> np.ndarray:
    shocks = np.random.default_rng(seed).normal(size=n + 50)
    x = np.zeros(n + 50)
    for t in range(1, n + 50):
        x[t] = phi * x[t - 1] + shocks[t]
    return x[50:, None]


@pytest.fixture(scope="module")
def index_returns() -> np.ndarray:
    from arch.data import sp500

    return sp500.load()["Adj Close"].pct_change().dropna().to_numpy()[:, None]


def test_index_vector(index_returns):
    def sharpe(sample: np.ndarray) -> np.ndarray:
        return np.array([sample.mean() / sample.std(ddof=1) * 252**0.5])

    (found,) = intervals(index_returns, sharpe, block=20, replications=1000, seed=1234)
    assert found.estimate == pytest.approx(0.282739, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((-0.0774, 0.6572), abs=5.1e-5)


def test_block_of_the_index(index_returns):
    assert block_length(index_returns) == 10  # 9.085
    assert block_length(index_returns, shortest=25) == 25
    assert block_length(index_returns[:30], shortest=25) == 10
    still = np.column_stack([index_returns[:, 0], np.zeros(len(index_returns))])
    assert block_length(still) == 10
    assert block_length(np.zeros((60, 2))) == 1


def test_against_arch():
    from arch.bootstrap import StationaryBootstrap

    data = autoregression(0, 300)
    (ours,) = intervals(data, mean, block=6, replications=500, seed=3, level=0.9)
    theirs = StationaryBootstrap(6, data, seed=3).conf_int(mean, 500, method="percentile", size=0.9)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs[:, 0]))


def test_blocks_cover_a_dependent_mean_and_single_rows_do_not():
    """METHODS 5: about .93 against .86 on an AR(1) of .3."""
    blocks, single = 0, 0
    for seed in range(300):
        data = autoregression(seed, 400)
        (found,) = intervals(data, mean, block=block_length(data), replications=200, seed=seed)
        (alone,) = intervals(data, mean, block=1, replications=200, seed=seed)
        blocks += found.low <= 0 <= found.high
        single += alone.low <= 0 <= alone.high
    # two standard errors of 300 draws: .03 and .04
    assert 0.89 < blocks / 300 < 0.97
    assert 0.81 < single / 300 < 0.90
    assert blocks > single


def test_figures_share_their_resamples():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 2))
    first, second, both = intervals(
        data,
        lambda sample: np.array([sample[:, 0].mean(), -sample[:, 0].mean(), sample.sum() / len(sample)]),
        block=4,
        replications=100,
        seed=0,
    )
    assert (first.low, first.high) == pytest.approx((-second.high, -second.low), rel=1e-12)
    assert both.estimate == pytest.approx(data.sum() / 200)


def test_same_arguments_same_bounds():
    data = autoregression(1, 100)
    bounds = [intervals(data, mean, block=3, replications=50, seed=seed) for seed in (1, 1, 2)]
    assert bounds[0] == bounds[1] != bounds[2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(30), "20 rows up"),
        (np.zeros((19, 1)), "20 rows up"),
        (np.full((30, 1), np.nan), "NaN"),
    ],
)
def test_refusals(data, message):
    with pytest.raises(DataError, match=message):
        intervals(data, mean, block=2, replications=10, seed=0)
    with pytest.raises(DataError, match=message):
        block_length(data)

import numpy as np
import pytest
from scipy import stats

from core.errors import DataError
from evaluation.classification import log_loss, losses
from evaluation.comparison import NegativeVariance, better, diebold_mariano, paired, superior_ability

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


def test_interval_is_the_paired_t_interval():
    low, high = diebold_mariano(E1, E2).interval(0.9)
    expected = stats.ttest_rel(E1, E2).confidence_interval(0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("classes", [2, 3])
def test_paired(classes):
    rng = np.random.default_rng(classes)
    champion, challenger = rng.dirichlet(np.ones(classes), (2, 300))
    y = rng.integers(0, classes, 300)
    found = paired(champion, challenger, y, horizon=5)
    test = better(losses(y, challenger), losses(y, champion), horizon=5)
    assert found.rows == 300
    assert (found.champion, found.challenger) == (log_loss(y, champion), log_loss(y, challenger))
    assert found.difference == pytest.approx(found.challenger - found.champion)
    assert (found.statistic, found.p_not_worse) == (test.hln, test.p_second_better)
    assert (found.low, found.high) == test.interval()
    assert found.low < found.difference < found.high
    mirrored = paired(challenger, champion, y, horizon=5)
    assert mirrored.difference == pytest.approx(-found.difference)
    assert mirrored.p_not_worse == pytest.approx(1 - found.p_not_worse)


def test_paired_on_too_few_rows():
    assert paired([], [], []).champion is None
    few = paired([0.5, 0.6], [0.5, 0.4], [1, 0], horizon=5)
    assert few.difference is not None
    assert few.statistic is few.low is few.p_not_worse is None


def squares() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(42)
    return rng.normal(size=500) ** 2, rng.normal(size=(500, 20)) ** 2


def columns(matrix: np.ndarray) -> dict[str, np.ndarray]:
    return {f"m{number}": matrix[:, number] for number in range(matrix.shape[1])}


@pytest.mark.parametrize(
    ("gift", "expected", "superior"),
    [(0.0, (0.630, 0.849, 0.860), ()), (0.35, (0.004, 0.012, 0.016), ("m3",))],
)
def test_superior_ability_vector(gift, expected, superior):
    benchmark, models = squares()
    models[:, 3] -= gift
    found = superior_ability(benchmark, columns(models), block=10, replications=1000, seed=7)
    assert (found.lower, found.consistent, found.upper) == pytest.approx(expected)
    assert found.superior == superior


@pytest.mark.parametrize("seed", range(6))
def test_stepwise_against_arch(seed):
    from arch.bootstrap import StepM

    rng = np.random.default_rng(seed)
    benchmark = rng.normal(size=300)
    models = rng.normal(size=(300, 6)) + np.array([0, -0.1, -0.2, -0.3, 0.2, 0.0])
    theirs = StepM(benchmark, models, block_size=5, reps=200, seed=seed)
    theirs.compute()
    ours = superior_ability(benchmark, columns(models), block=5, replications=200, seed=seed)
    assert ours.superior == tuple(f"m{at}" for at in theirs.superior_models)


def test_steps_that_take_every_candidate_end():
    """arch 8 takes the maximum of nothing when it finds the last candidate in a second step."""
    rng = np.random.default_rng(0)
    benchmark = rng.normal(size=300)
    models = benchmark[:, None] + rng.normal(size=(300, 2)) * [1, 0.25] - [0.25, 0.05]
    found = superior_ability(benchmark, columns(models), block=5, replications=200, seed=1)
    assert found.superior == ("m0", "m1")


def test_a_candidate_that_is_the_benchmark_is_not_superior():
    benchmark, models = squares()
    assert superior_ability(benchmark, {"same": benchmark}, block=5, replications=50, seed=0).consistent == 1
    one = superior_ability(benchmark, {"m": models[:, 0]}, block=5, replications=50, seed=0)
    two = superior_ability(
        benchmark, {"m": models[:, 0], "same": benchmark}, block=5, replications=50, seed=0
    )
    assert one == two


def test_superior_ability_of_a_long_record_is_that_of_its_runs():
    rng = np.random.default_rng(1)
    long, models = rng.normal(size=12_000), rng.normal(size=(12_000, 3))
    found = superior_ability(long, columns(models), block=6, replications=100, seed=0)
    runs = models.reshape(-1, 3, 3).mean(axis=1)
    short = superior_ability(
        long.reshape(-1, 3).mean(axis=1), columns(runs), block=2, replications=100, seed=0
    )
    assert found == short


def test_superior_ability_does_not_see_the_scale():
    benchmark, models = squares()
    one = superior_ability(benchmark, columns(models), block=10, replications=100, seed=7)
    thousand = superior_ability(1024 * benchmark, columns(1024 * models), block=10, replications=100, seed=7)
    assert one == thousand

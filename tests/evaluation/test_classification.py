import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from core.errors import DataError
from evaluation import classification as c

Y = [0, 1, 1, 0, 1, 1, 0, 0, 1, 0]
P = [0.1, 0.9, 0.8, 0.3, 0.6, 0.7, 0.4, 0.2, 0.95, 0.55]


def test_vectors():
    assert c.brier(Y, P) == pytest.approx(0.0905)
    assert c.log_loss(Y, P) == pytest.approx(0.324181, abs=5e-7)
    assert c.ece(Y, P, bins=5, equal_mass=False) == pytest.approx(0.18)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 3))
def test_against_sklearn(n, seed, weighted, digits):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, n), np.round(rng.uniform(0.01, 0.99, n), digits)
    w = rng.uniform(0, 2, n) if weighted else None
    assert c.brier(y, p, w) == pytest.approx(metrics.brier_score_loss(y, p, sample_weight=w))
    expected = metrics.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15), sample_weight=w, labels=[0, 1])
    assert c.log_loss(y, p, w) == pytest.approx(expected, rel=1e-9)
    assert c.hit_rate(y, p, w) == pytest.approx(metrics.accuracy_score(y, p >= 0.5, sample_weight=w))
    if 0 < y.sum() < n:
        assert c.auc(y, p, w) == pytest.approx(metrics.roc_auc_score(y, p, sample_weight=w))


def test_auc_of_one_class_is_undefined():
    assert np.isnan(c.auc([1, 1], [0.2, 0.3]))


def test_equal_predictions_are_never_split_between_bins():
    table = c.reliability(np.tile([0, 1], 50), np.full(100, 0.5))
    assert table.rows.tolist() == [100]
    assert c.ece(np.tile([0, 1], 50), np.full(100, 0.5)) == 0
    rng = np.random.default_rng(0)
    p = rng.uniform(size=1000)
    assert c.reliability((p > 0.5).astype(int), p).rows.tolist() == [100] * 10


def test_reliability_with_weights_equals_repeated_rows():
    rng = np.random.default_rng(1)
    y, p, w = rng.integers(0, 2, 40), rng.uniform(size=40), rng.integers(0, 3, 40)
    repeated = c.ece(np.repeat(y, w), np.repeat(p, w), bins=4, equal_mass=False)
    assert c.ece(y, p, w, bins=4, equal_mass=False) == pytest.approx(repeated)


def test_chance_stays_below_the_noise_bound_19_times_in_20():
    rng = np.random.default_rng(2)
    p = np.clip(rng.normal(0.53, 0.05, 1500), 0.01, 0.99)
    errors = np.array([c.ece(rng.uniform(size=1500) < p, p) for _ in range(400)])
    assert 0.91 < (errors <= c.ece_noise(p)).mean() < 0.985
    assert c.ece_noise(p, overlap=4) == pytest.approx(2 * c.ece_noise(p))


@pytest.mark.parametrize(
    ("y", "p", "w", "message"),
    [
        ([0, 1], [0.5], None, "2 outcomes, 1 prob"),
        ([], [], None, "non-zero"),
        ([0, 2], [0.5, 0.5], None, "must be 0 or 1"),
        ([0, np.nan], [0.5, 0.5], None, "must be 0 or 1"),
        ([0, 1], [0.5, np.nan], None, r"probability nan at row 1"),
        ([0, 1], [-0.1, 0.5], None, r"probability -0.1 at row 0"),
        ([0, 1], [0.5, 0.5], [0, 0], "not all zero"),
        ([0, 1], [0.5, 0.5], [1, -1], "not negative"),
    ],
)
def test_refusals(y, p, w, message):
    with pytest.raises(DataError, match=message):
        c.brier(y, p, w)


def test_a_certain_miss_is_finite():
    assert c.log_loss([1], [0.0]) == pytest.approx(-np.log(1e-15))

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


def draw(seed: int, rows: int = 120, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, rows), rng.dirichlet(np.full(classes, 0.7), rows)


FIGURES = [c.log_loss, c.brier, c.hit_rate, c.auc, c.ece]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), digits=st.integers(1, 3))
def test_two_columns_are_exactly_the_second_alone(figure, seed, digits):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 80), np.round(rng.uniform(size=80), digits)
    both = np.column_stack([1 - p, p])
    w = rng.uniform(size=80)
    assert figure(y, both) == figure(y, p)
    assert figure(y, both, w) == figure(y, p, w)
    assert (c.losses(y, both) == c.losses(y, p)).all()
    assert c.ece_noise(both) == c.ece_noise(p)


@pytest.mark.parametrize("classes", [3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes_against_sklearn(classes, weighted):
    y, p = draw(classes, classes=classes)
    w = np.random.default_rng(0).uniform(0, 2, len(y)) if weighted else None
    names = list(range(classes))
    assert c.log_loss(y, p, w) == pytest.approx(metrics.log_loss(y, p, sample_weight=w, labels=names))
    half = metrics.brier_score_loss(y, p, sample_weight=w, labels=names, scale_by_half=True)
    assert c.brier(y, p, w) == pytest.approx(half)
    assert c.hit_rate(y, p, w) == pytest.approx(metrics.accuracy_score(y, p.argmax(axis=1), sample_weight=w))
    last = metrics.roc_auc_score(y == classes - 1, p[:, -1], sample_weight=w)
    assert c.auc(y, p, w) == pytest.approx(last)
    assert c.ece(y, p, w) == c.ece(y == classes - 1, p[:, -1], w)


def test_an_even_guess_of_three_classes():
    y = np.array([0, 1, 2])
    p = np.full((3, 3), 1 / 3)
    assert c.log_loss(y, p) == pytest.approx(np.log(3))
    assert c.brier(y, p) == pytest.approx(1 / 3)
    # all three tie, and the last counts
    assert c.hits(y, p).tolist() == [False, False, True]


def test_ties_go_to_the_last_of_the_likeliest():
    p = [[0.4, 0.4, 0.2], [0.4, 0.2, 0.4], [0.2, 0.4, 0.4]]
    assert c.hits([1, 2, 2], p).all()
    assert c.hits([1, 0], [0.5, 0.5]).tolist() == [True, False]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_order_of_the_rows_does_not_matter(figure, classes):
    y, p = draw(7, classes=classes)
    order = np.random.default_rng(1).permutation(len(y))
    assert figure(y[order], p[order]) == pytest.approx(figure(y, p), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
def test_auc_sees_only_the_order(seed, power):
    rng = np.random.default_rng(seed)
    y, p = np.r_[0, 1, rng.integers(0, 2, 60)], np.round(rng.uniform(size=62), 2)
    assert c.auc(y, p**power) == pytest.approx(c.auc(y, p))
    assert c.auc(1 - y, p) == pytest.approx(1 - c.auc(y, p))


def test_log_loss_and_brier_are_proper():
    """No probability beats the one that outcomes are drawn from."""
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(3), 20_000)
    y = (rng.uniform(size=20_000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    for off in (p**1.3, p**0.7, p + np.array([0.1, 0, 0])):
        other = off / off.sum(axis=1, keepdims=True)
        assert c.log_loss(y, p) < c.log_loss(y, other)
        assert c.brier(y, p) < c.brier(y, other)


def test_valid_rows():
    p = [
        [0.2, 0.3, 0.5],
        [0.2, 0.3, 0.6],
        [np.nan, 0.5, 0.5],
        [-0.1, 0.6, 0.5],
        [np.inf, np.inf, 0],
        [0, 0, 1],
    ]
    assert c.valid(p).tolist() == [True, False, False, False, False, True]
    assert c.valid([0, 1, 1.1, np.nan]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([3], [[0.2, 0.3, 0.5]], "class numbers 0 to 2"),
        ([0.5], [[0.2, 0.3, 0.5]], "class numbers 0 to 2"),
        ([2], [0.5], "must be 0 or 1"),
        ([2], [[0.5, 0.5]], "must be 0 or 1"),
        ([0], [[0.2, 0.3, 0.6]], r"at row 0: must be a number in \[0, 1\], classes adding to 1"),
        ([0], [[1.0]], r"shape \(1, 1\)"),
    ],
)
def test_refusals_of_classes(y, p, message):
    with pytest.raises(DataError, match=message):
        c.log_loss(y, p)

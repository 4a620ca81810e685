"""Every check catches what it is for, names it, and lets the honest twin pass."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from core.errors import DataError
from evaluation import leaks
from evaluation.splits import Fold, combinatorial, walk_forward
from models.dataset import Dataset
from models.families import get_family
from trading.backtest import PositionRule, run_signal
from trading.costs import Costs

Matrix = tuple[NDArray[np.float32], NDArray[np.float64]]
N, HORIZON = 600, 5
TIMES = np.arange(N, dtype=np.int64)
T1 = TIMES + HORIZON
HALVES = Fold(np.arange(400), np.arange(400, 600))


def rows(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@pytest.fixture
def matrix() -> Matrix:
    """Features and continuous outcomes of a random walk."""
    rng = np.random.default_rng(3)
    walk = np.cumsum(rng.normal(size=N + HORIZON))
    x = np.column_stack([rng.normal(size=(N, 3)), walk[:N]]).astype(np.float32)
    return x, walk[HORIZON:] - walk[:N]


def naive_overlaps(fold: Fold, times: NDArray[np.int64], t1: NDArray[np.int64]) -> int:
    return sum(any(times[i] < t1[j] and times[j] < t1[i] for j in fold.test) for i in fold.train)


class TestPurged:
    def test_our_splits_pass(self) -> None:
        for fold in [
            *walk_forward(TIMES, T1, train_rows=200, test_rows=100),
            *combinatorial(TIMES, T1, groups=5, test_groups=2),
        ]:
            assert leaks.purged(fold, TIMES, T1).passed

    def test_counts_what_a_naive_loop_counts(self) -> None:
        rng = np.random.default_rng(5)
        times, t1 = TIMES[:80], TIMES[:80] + rng.integers(1, 9, 80)
        order = rng.permutation(80)
        fold = Fold(np.sort(order[:60]), np.sort(order[60:]))
        found = leaks.purged(fold, times, t1)
        assert not found.passed
        assert found.detail.startswith(f"{naive_overlaps(fold, times, t1)} of 60 training labels")

    def test_a_label_that_ends_where_the_test_begins_is_fine(self) -> None:
        assert leaks.purged(Fold(rows(0, 5), rows(10, 11)), TIMES, T1).passed

    def test_a_label_one_bar_longer_is_not(self) -> None:
        found = leaks.purged(Fold(rows(0, 6), rows(10, 11)), TIMES, T1)
        assert not found.passed
        assert "at row 6:" in found.detail


class TestInOrder:
    def test_walk_forward_passes_and_cross_validation_does_not(self) -> None:
        assert leaks.in_order(walk_forward(TIMES, T1, train_rows=200, test_rows=100)[0], TIMES).passed
        assert not leaks.in_order(combinatorial(TIMES, T1, groups=4, test_groups=1)[0], TIMES).passed

    def test_one_later_row_is_found(self) -> None:
        found = leaks.in_order(Fold(rows(0, 1, 40), rows(20, 21)), TIMES)
        assert not found.passed
        assert "row 40" in found.detail


class TestDistinct:
    def test_different_rows_pass(self, matrix: Matrix) -> None:
        assert leaks.distinct(HALVES, leaks.row_marks(*matrix)).passed

    def test_copies_above_the_share_are_found(self, matrix: Matrix) -> None:
        x, outcome = matrix
        x[450:460], outcome[450:460] = x[100:110], outcome[100:110]
        found = leaks.distinct(HALVES, leaks.row_marks(x, outcome))
        assert not found.passed
        assert "10 of 200 test rows" in found.detail
        assert "row 450" in found.detail

    def test_equal_features_with_another_outcome_are_no_copy(self, matrix: Matrix) -> None:
        x, outcome = matrix
        assert leaks.distinct(HALVES, leaks.row_marks(np.sign(x), outcome)).passed

    def test_missing_values_equal_each_other(self, matrix: Matrix) -> None:
        x, outcome = matrix
        x[:, 0] = np.nan
        x[500:520], outcome[500:520] = x[:20], outcome[:20]
        assert not leaks.distinct(HALVES, leaks.row_marks(x, outcome)).passed

    def test_a_row_in_both(self, matrix: Matrix) -> None:
        found = leaks.distinct(Fold(rows(1, 2, 3), rows(3, 4)), leaks.row_marks(*matrix))
        assert not found.passed
        assert "row 3" in found.detail


class TestAuditSplit:
    def test_walk_forward_passes(self, matrix: Matrix) -> None:
        folds = walk_forward(TIMES, T1, train_rows=200, test_rows=100)
        found = leaks.audit_split(folds, TIMES, T1, *matrix)
        assert [finding.check for finding in found] == ["purged", "distinct", "in_order"]
        leaks.require(found)

    def test_the_fold_is_named_and_required(self, matrix: Matrix) -> None:
        folds = walk_forward(TIMES, TIMES + 1, train_rows=200, test_rows=100)
        folds[1] = Fold(np.arange(300), folds[1].test)
        with pytest.raises(DataError, match=r"purged: fold 1: 4 of 200"):
            leaks.require(leaks.audit_split(folds, TIMES, T1, *matrix))

    def test_cross_validation_may_train_on_later_rows(self, matrix: Matrix) -> None:
        folds = combinatorial(TIMES, T1, groups=5, test_groups=2)
        leaks.require(leaks.audit_split(folds, TIMES, T1, *matrix, ordered=False))
        with pytest.raises(DataError, match="in_order"):
            leaks.require(leaks.audit_split(folds, TIMES, T1, *matrix))


class TestAuditFeatures:
    NAMES = ("a", "b", "c", "level")

    def test_honest_features_pass(self, matrix: Matrix) -> None:
        x, outcome = matrix
        assert leaks.audit_features(x, outcome > 0, self.NAMES, overlap=HORIZON).passed

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_outcome_in_a_feature_is_named(self, matrix: Matrix, sign: int) -> None:
        x, outcome = matrix
        x[:, 1] = sign * outcome + 2 * x[:, 0]
        x[::7, 1] = np.nan
        found = leaks.audit_features(x, outcome > 0, self.NAMES, overlap=HORIZON)
        assert not found.passed
        assert found.detail.startswith("b alone")

    def test_the_auc_is_that_of_scipy(self, matrix: Matrix) -> None:
        x, outcome = matrix
        y = outcome > 0
        column = np.round(x[:, :1] + outcome[:, None])
        expected = mannwhitneyu(column[y, 0], column[~y, 0]).statistic / (y.sum() * (~y).sum())
        found = leaks.audit_features(column, y, ("f",), overlap=1)
        assert f"AUC {expected:.3f}" in found.detail

    def test_noise_is_never_too_good(self) -> None:
        """Persistent features over overlapping labels, short histories: the hardest case for the bound."""
        rng = np.random.default_rng(8)
        for _ in range(200):
            walk = np.cumsum(rng.normal(size=(160, 6)), axis=0)
            y = np.cumsum(rng.normal(size=180))
            found = leaks.audit_features(walk, y[20:] > y[:-20], tuple("abcdef"), overlap=20)
            assert found.passed, found.detail

    def test_an_edge_at_the_limit_of_the_gate_passes(self) -> None:
        rng = np.random.default_rng(9)
        x = rng.normal(size=(5000, 1))
        y = 0.3 * x[:, 0] + np.sqrt(1 - 0.09) * rng.normal(size=5000) > 0
        assert ((x[:, 0] > 0) == y).mean() == pytest.approx(0.6, abs=0.01)
        assert leaks.audit_features(x, y, ("edge",), overlap=1).passed

    def test_three_classes_compare_first_and_last(self, matrix: Matrix) -> None:
        x, outcome = matrix
        y = np.digitize(outcome, [-1, 1])
        x[:, 2] = y + x[:, 0]
        assert not leaks.audit_features(x, y, self.NAMES, overlap=HORIZON).passed
        x[:, 2] = (y == 1) + x[:, 0]  # says when nothing happens, which ranks nothing
        assert leaks.audit_features(x, y, self.NAMES, overlap=HORIZON).passed

    def test_one_class_and_a_constant_pass(self, matrix: Matrix) -> None:
        x, outcome = matrix
        assert leaks.audit_features(x, np.ones(N), self.NAMES, overlap=1).passed
        assert leaks.audit_features(np.zeros((N, 1)), outcome > 0, ("flat",), overlap=1).passed

    def test_long_histories_are_thinned(self) -> None:
        rng = np.random.default_rng(2)
        y = rng.uniform(size=70_000) > 0.5
        found = leaks.audit_features(rng.normal(size=(70_000, 1)) + 2 * y[:, None], y, ("f",), overlap=5)
        assert not found.passed
        assert "17500 outcomes" in found.detail


class TestPrefixInvariant:
    CUTS = (200, 400, 600)
    CLOSE = pd.Series(100 + np.cumsum(np.random.default_rng(1).normal(size=N)))

    def known(self, rows: int) -> pd.Series:
        return self.CLOSE.iloc[:rows]

    def test_a_causal_build_passes(self) -> None:
        found = leaks.prefix_invariant(lambda c: c.rolling(20).mean().to_numpy(), self.known, self.CUTS)
        assert found.passed

    @pytest.mark.parametrize(
        ("build", "first"),
        [
            (lambda c: c.shift(-1).to_numpy(), 199),
            (lambda c: ((c - c.mean()) / c.std()).to_numpy(), 0),
            (lambda c: c.rolling(9, center=True).mean().to_numpy(), 196),
        ],
    )
    def test_the_first_bar_that_moves_is_named(self, build: object, first: int) -> None:
        found = leaks.prefix_invariant(build, self.known, self.CUTS)  # type: ignore[arg-type]
        assert not found.passed
        assert f"first at bar {first}:" in found.detail

    def test_a_build_that_drops_rows_is_refused(self) -> None:
        with pytest.raises(DataError, match="a row per bar"):
            leaks.prefix_invariant(lambda c: c.to_numpy()[1:], self.known, self.CUTS)


def centred(x: NDArray[np.float64], y: NDArray[np.float64], train: NDArray[np.int64]) -> object:
    """Scaled by the training rows, then a mean of labels weighted by the first feature."""
    mean, scale = x[train].mean(axis=0), x[train].std(axis=0)
    coef = ((x[train] - mean) / scale).T @ y[train]
    return lambda asked: ((asked - mean) / scale) @ coef


class TestFitIsolated:
    TRAIN, ASKED = np.arange(300), np.arange(400, 500)

    def data(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rng = np.random.default_rng(4)
        return rng.normal(size=(N, 3)), (rng.uniform(size=N) > 0.5).astype(float)

    def test_a_fit_on_the_training_rows_passes(self) -> None:
        assert leaks.fit_isolated(centred, *self.data(), self.TRAIN, self.ASKED).passed  # type: ignore[arg-type]

    def test_a_scaler_on_all_rows_is_found(self) -> None:
        def leaky(x: NDArray[np.float64], y: NDArray[np.float64], train: NDArray[np.int64]) -> object:
            mean, scale = x.mean(axis=0), x.std(axis=0)
            fitted = centred((x - mean) / scale, y, train)
            return lambda asked: fitted((asked - mean) / scale + mean)  # type: ignore[operator]

        found = leaks.fit_isolated(leaky, *self.data(), self.TRAIN, self.ASKED)  # type: ignore[arg-type]
        assert not found.passed
        assert "features of rows" in found.detail

    def test_labels_of_other_rows_are_found(self) -> None:
        def leaky(x: NDArray[np.float64], y: NDArray[np.float64], train: NDArray[np.int64]) -> object:
            rate = y.mean()
            return lambda asked: np.full(len(asked), rate)

        x, y = self.data()
        y[:250] = 0.0  # turning the others must move the rate
        found = leaks.fit_isolated(leaky, x, y, self.TRAIN, self.ASKED)  # type: ignore[arg-type]
        assert not found.passed
        assert "labels of rows" in found.detail

    def test_nothing_left_out_is_refused(self) -> None:
        with pytest.raises(DataError, match="leave some out"):
            leaks.fit_isolated(centred, *self.data(), np.arange(N), self.ASKED)  # type: ignore[arg-type]


def our_engine(prices: Mapping[str, NDArray[np.float64]], targets: NDArray[np.int8]) -> float:
    index = pd.date_range("2020-01-01", periods=len(targets), tz="UTC", name="timestamp")
    bars = pd.DataFrame({**prices, "volume": np.ones(len(targets))}, index=index)
    probability = pd.Series(0.5 + 0.4 * targets, index=index)
    result = run_signal(bars, probability, PositionRule(allow_short=True), Costs(0.0, 0.0))
    return float((1 + result.returns).prod())


class TestFillsNextOpen:
    def test_our_engine_passes(self) -> None:
        found = leaks.fills_next_open(our_engine)
        assert found.passed, found.detail

    @pytest.mark.parametrize(
        ("name", "entry", "leave"),
        [
            ("open of the deciding bar", ("open", 0), ("open", 0)),
            ("close of the deciding bar", ("close", 0), ("close", 0)),
            ("next close", ("close", 1), ("close", 1)),
            ("best end of the next bar", ("low", 1), ("high", 1)),
            ("honest in, early out", ("open", 1), ("close", 0)),
            ("one bar late", ("open", 2), ("open", 2)),
        ],
    )
    def test_other_fills_are_found(self, name: str, entry: tuple[str, int], leave: tuple[str, int]) -> None:
        def engine(prices: Mapping[str, NDArray[np.float64]], targets: NDArray[np.int8]) -> float:
            held = np.flatnonzero(targets)
            bought = prices[entry[0]][held[0] + entry[1]]
            sold = prices[leave[0]][held[-1] + 1 + leave[1]]
            return float(1 + targets[held[0]] * (sold / bought - 1))

        found = leaks.fills_next_open(engine)
        assert not found.passed, name

    def test_a_wrong_growth_from_the_right_prices_is_found(self) -> None:
        def engine(prices: Mapping[str, NDArray[np.float64]], targets: NDArray[np.int8]) -> float:
            return our_engine(prices, targets) * 1.001

        assert "grew by" in leaks.fills_next_open(engine).detail


class TestOurOwn:
    """What is fitted in this project, held against the check."""

    @pytest.mark.parametrize(
        "family", ["base_rate", "logistic", "lightgbm", "catboost", "xgboost", "random_forest"]
    )
    def test_a_family_fits_on_its_rows_alone(self, family: str) -> None:
        kind, names = get_family(family), ("a", "b", "c")
        params = {"random_forest": {"n_estimators": 10}}.get(family, {})

        def fit(x: NDArray[np.float32], y: NDArray[np.float64], train: NDArray[np.int64]) -> object:
            data = Dataset(times=TIMES, x=x, y=y, w=np.ones(N), t1=T1, names=names)
            fitted = kind.fit(data, train, seed=1, window=1, params=params)
            return lambda asked: fitted.predict(asked, np.arange(len(asked)))

        rng = np.random.default_rng(6)
        x = rng.normal(size=(N, 3)).astype(np.float32)
        y = (x[:, 0] + rng.normal(size=N) > 0).astype(np.float64)
        found = leaks.fit_isolated(fit, x, y, np.arange(400), np.arange(450, 500))  # type: ignore[arg-type]
        assert found.passed, found.detail

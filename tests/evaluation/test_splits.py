"""Folds never train on what they are tested on."""

import doctest
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from purgedcv import CombinatorialPurgedCV, PurgedKFold
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import KFold

from core.errors import DataError
from evaluation import splits
from evaluation.splits import SplitError, combinatorial, k_fold, paths, walk_forward

DAYS = np.arange(20)


def test_examples_in_the_docstrings():
    assert doctest.testmod(splits).failed == 0
    assert "walk_forward" in (splits.__doc__ or "")


@pytest.mark.parametrize(
    ("fold", "train"),
    [(1, {0, 1, 2, *range(9, 20)}), (2, {*range(7), *range(13, 20)}), (0, set(range(5, 20)))],
)
def test_purged_k_fold_vector(fold, train):
    assert set(k_fold(DAYS, DAYS + 2, folds=5, embargo=1)[fold].train.tolist()) == train


@pytest.mark.parametrize(
    ("groups", "chosen", "count", "whole"), [(6, 2, 15, 5), (10, 2, 45, 9), (10, 8, 45, 36)]
)
def test_combinatorial_counts(groups, chosen, count, whole):
    times = np.arange(groups * 3)
    folds = combinatorial(times, times, groups=groups, test_groups=chosen)
    table = paths(groups, chosen)
    assert len(folds) == count == comb(groups, chosen)
    assert table.shape == (whole, groups)
    blocks = np.array_split(times, groups)
    for path in table:
        for group, fold in enumerate(path):
            assert np.isin(blocks[group], folds[fold].test).all()
    for group in range(groups):
        assert len(set(table[:, group])) == whole


@pytest.mark.parametrize("embargo", [0, 1, 3])
@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_against_purgedcv(horizon, embargo):
    n = 60
    times = pd.date_range("2020-01-01", periods=n, freq="D")
    t1 = times + pd.Timedelta(days=horizon)
    shared = {"prediction_times": times, "evaluation_times": t1, "embargo_observations": embargo}
    ours = k_fold(times.asi8, t1.asi8, folds=5, embargo=embargo)
    for fold, (train, test) in zip(ours, PurgedKFold(5, **shared).split(np.zeros((n, 1))), strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, test)
    ours = combinatorial(times.asi8, t1.asi8, groups=6, test_groups=2, embargo=embargo)
    theirs = CombinatorialPurgedCV(6, 2, **shared).split(np.zeros((n, 1)))
    expected = {tuple(test): tuple(train) for train, test in theirs}
    assert {tuple(fold.test): tuple(fold.train) for fold in ours} == expected


@pytest.mark.parametrize("scheme", ["anchored", "rolling"])
def test_walk_forward_vector(scheme):
    times = np.arange(1000)
    folds = walk_forward(times, times, scheme=scheme, train_rows=180, test_rows=30, remainder="drop")
    assert len(folds) == 27
    assert sum(len(fold.test) for fold in folds) == 810
    assert {len(fold.train) for fold in folds} == ({180} if scheme == "rolling" else set(range(180, 961, 30)))


def test_a_short_last_block_is_merged_and_a_long_one_kept():
    def last_sizes(n: int) -> list[int]:
        folds = walk_forward(np.arange(n), np.arange(n), train_rows=100, test_rows=30)
        return [len(fold.test) for fold in folds[-2:]]

    assert last_sizes(100 + 90 + 14) == [30, 44]
    assert last_sizes(100 + 90 + 15) == [30, 15]
    assert last_sizes(100 + 90) == [30, 30]


def test_blocks_grow_so_that_folds_stay_within_the_maximum():
    times = np.arange(5000)
    for maximum in (1, 3, 8):
        folds = walk_forward(times, times, train_rows=1000, test_rows=60, max_folds=maximum)
        assert len(folds) <= maximum
        np.testing.assert_array_equal(np.concatenate([f.test for f in folds]), np.arange(1000, 5000))


@settings(deadline=None, max_examples=100)
@given(
    st.integers(60, 300),
    # labels are at most 9 rows long and the embargo 5: some training row is always left
    st.integers(15, 100),
    st.integers(1, 60),
    st.one_of(st.none(), st.integers(1, 12)),
    st.integers(0, 5),
    st.sampled_from(["anchored", "rolling"]),
    st.randoms(use_true_random=False),
)
def test_laws_of_walk_forward(n, train_rows, test_rows, max_folds, embargo, scheme, random):
    assume(n >= train_rows + test_rows)
    times = np.cumsum([random.randint(1, 4) for _ in range(n)])
    t1 = times + np.array([random.randint(0, 9) for _ in range(n)])
    asked = {"scheme": scheme, "train_rows": train_rows, "test_rows": test_rows}
    folds = walk_forward(times, t1, **asked, max_folds=max_folds, embargo=embargo)
    np.testing.assert_array_equal(np.concatenate([f.test for f in folds]), np.arange(train_rows, n))
    assert max_folds is None or len(folds) <= max_folds
    for fold in folds:
        assert t1[fold.train].max() <= times[fold.test[0]]
        assert fold.train.max() + embargo < fold.test[0]
        if scheme == "rolling":
            assert fold.train.min() >= fold.test[0] - train_rows
    again = walk_forward(times, t1, **asked, max_folds=max_folds, embargo=embargo)
    for fold, other in zip(folds, again, strict=True):
        np.testing.assert_array_equal(fold.train, other.train)


def test_datetime64_times_do_as_well_as_integers():
    times = pd.date_range("2020-01-01", periods=40).to_numpy()
    t1 = times + np.timedelta64(2, "D")
    folds = walk_forward(times, t1, train_rows=20, test_rows=10)
    whole = walk_forward(times.astype("int64"), t1.astype("int64"), train_rows=20, test_rows=10)
    assert [f.train.tolist() for f in folds] == [f.train.tolist() for f in whole]


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (29, {}, r"29 labelled rows: 20 to train and 10 to test need at least 30"),
        (0, {}, "no labelled rows"),
        (40, {"train_rows": 0}, "must be at least 1"),
        (40, {"embargo": -1}, "embargo at least 0"),
        (40, {"max_folds": 0}, "max_folds 0"),
        (40, {"scheme": "shuffled"}, "'anchored' or 'rolling'"),
        (40, {"embargo": 20}, "fold 1: purging by label end and embargo 20 leaves none of"),
        (40, {"embargo": 25}, "leaves none of 20 training rows; it needs more than 25,"),
    ],
)
def test_impossible_folds(n, arguments, message):
    times = np.arange(n)
    with pytest.raises(SplitError, match=message):
        walk_forward(times, times, **{"train_rows": 20, "test_rows": 10, **arguments})
    assert issubclass(SplitError, DataError)


def test_disordered_rows_are_refused():
    with pytest.raises(SplitError, match="row 2 is not after"):
        walk_forward(np.array([0, 2, 1]), np.array([0, 2, 2]), train_rows=1, test_rows=1)
    with pytest.raises(SplitError, match="row 1: its label ends before"):
        walk_forward(np.array([0, 1, 2]), np.array([0, 0, 2]), train_rows=1, test_rows=1)
    with pytest.raises(SplitError, match="3 times but 2 label ends"):
        walk_forward(np.arange(3), np.arange(2), train_rows=1, test_rows=1)
    with pytest.raises(SplitError, match="test_groups 3 of groups 3"):
        combinatorial(DAYS, DAYS, groups=3, test_groups=3)
    with pytest.raises(SplitError, match="20 labelled rows for 30 groups"):
        k_fold(DAYS, DAYS, folds=30)


def test_canary_a_random_walk_is_predictable_only_across_a_leak():
    rng = np.random.default_rng(1)
    horizon, n = 20, 1500
    walk = np.cumsum(rng.normal(size=n + horizon))
    y = (walk[horizon:] > walk[:-horizon]).astype(int)
    # slow features name the time of the row, and so the neighbours that share its label
    x = np.column_stack([walk[:n], np.convolve(walk, np.ones(50) / 50)[:n], np.arange(n) % 250])
    times = np.arange(n)

    def accuracy(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        hits = []
        for train, test in pairs:
            model = RandomForestClassifier(25, min_samples_leaf=2, random_state=0, n_jobs=1)
            hits.append(model.fit(x[train], y[train]).predict(x[test]) == y[test])
        return float(np.concatenate(hits).mean())

    shuffled = accuracy(list(KFold(5, shuffle=True, random_state=0).split(x)))
    honest = k_fold(times, times + horizon, folds=5, embargo=horizon)
    assert shuffled > 0.8
    assert accuracy([(fold.train, fold.test) for fold in honest]) < 0.6

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from evaluation import paths, splits


def predictions(n: int, groups: int, test_groups: int) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(n)
    folds = splits.combinatorial(times, times, groups=groups, test_groups=test_groups)
    row = np.concatenate([fold.test for fold in folds])
    return row, np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds])


@pytest.mark.parametrize(("groups", "test_groups", "count"), [(6, 2, 5), (4, 1, 1), (5, 3, 6)])
def test_every_path_is_a_whole_history_and_every_prediction_is_used_once(groups, test_groups, count):
    row, fold = predictions(83, groups, test_groups)
    order = np.random.default_rng(0).permutation(len(row))
    found = paths.histories(row[order], fold[order], groups=groups, test_groups=test_groups)
    assert found.shape == (count, 83)
    for path in found:
        assert row[order][path].tolist() == list(range(83))
    assert sorted(found.ravel().tolist()) == list(range(len(row)))


def test_a_path_keeps_to_one_fold_within_a_group():
    row, fold = predictions(60, 6, 2)
    for path in paths.histories(row, fold, groups=6, test_groups=2):
        for block in np.array_split(path, 6):
            assert len(set(fold[block])) == 1


def test_folds_that_do_not_fit_are_refused():
    row, fold = predictions(60, 6, 2)
    with pytest.raises(DataError, match="counted from 0"):
        paths.histories(row, fold, groups=6, test_groups=3)
    with pytest.raises(DataError, match="counted from 0"):
        paths.histories(row[fold > 0], fold[fold > 0], groups=6, test_groups=2)


def test_distribution():
    scores = pd.DataFrame(
        {
            "family": ["b", "a", "b", "a"],
            "path": [1, 0, 0, 1],
            "sharpe": [0.5, np.nan, -0.5, 1.0],
            "log_loss": [0.69, 0.68, 0.70, 0.66],
        }
    )
    found = paths.distribution(scores)
    assert list(found) == ["a", "b"]
    assert found["b"]["sharpe"]["values"] == [-0.5, 0.5]
    # a path that never traded earned nothing
    assert found["a"]["sharpe"]["values"] == [0.0, 1.0]
    assert (found["a"]["losing"], found["b"]["losing"]) == (0.5, 0.5)
    assert found["a"]["log_loss"]["median"] == pytest.approx(0.67)
    assert found["a"]["log_loss"]["low"] == pytest.approx(0.661)
    assert found["b"]["paths"] == 2

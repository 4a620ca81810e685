"""Folds in processes, the nested ensemble, the final fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigurationError, DataError
from core.files import directory_hashes
from evaluation.classification import log_loss
from evaluation.splits import Fold, walk_forward
from models.dataset import Dataset
from models.labels import make_labels
from models.training import Progress, fit_final, nested_baseline, nested_ensemble, out_of_fold

QUICK = ["base_rate", "logistic", "lightgbm"]


def make_folds(data: Dataset) -> list[Fold]:
    return walk_forward(data.times, data.t1, train_rows=400, test_rows=200)


@pytest.fixture(scope="module")
def oof(export_data: Dataset) -> pd.DataFrame:
    return out_of_fold(export_data, make_folds(export_data), QUICK, {}, seed=3, window=8)


def test_table_has_every_test_row_once(oof: pd.DataFrame, export_data: Dataset) -> None:
    assert oof.columns.tolist() == ["row", "fold", *QUICK]
    assert oof["row"].tolist() == list(range(400, 1200))
    assert oof["fold"].unique().tolist() == [1, 2, 3, 4]


def test_processes_change_nothing_but_time(export_data: Dataset) -> None:
    folds, families = make_folds(export_data)[:2], ["base_rate", "logistic", "lightgbm", "catboost", "lstm"]
    params = {"lstm": {"max_epochs": 2}}
    seen: list[Progress] = []
    alone = out_of_fold(export_data, folds, families, params, seed=3, window=8)
    spread = out_of_fold(
        export_data, folds, families, params, seed=3, window=8, processes=2, on_progress=seen.append
    )
    pd.testing.assert_frame_equal(alone, spread, check_exact=True)
    assert [p.done for p in seen] == list(range(1, 11))
    assert {(p.fold, p.family) for p in seen} == {(k, name) for k in (1, 2) for name in families}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_names_fold_and_family(export_data: Dataset, processes: int) -> None:
    y = export_data.y.copy()
    y[330:400] = 1.0
    with pytest.raises(
        DataError, match=r"fold 1, lightgbm: early-stopping rows hold one class only \(64 rows"
    ):
        out_of_fold(
            replace(export_data, y=y),
            make_folds(export_data),
            ["lightgbm"],
            {"lightgbm": {"inner_share": 0.16}},
            seed=3,
            window=8,
            processes=processes,
        )


def test_one_class_in_a_fold_is_found_before_anything_is_fitted(export_data: Dataset) -> None:
    y = np.where(np.arange(1200) < 400, 1.0, export_data.y)
    with pytest.raises(DataError, match=r"fold 1: training rows hold one class only \(400 rows"):
        out_of_fold(replace(export_data, y=y), make_folds(export_data), QUICK, {}, seed=3, window=8)


def test_faults_of_all_families_are_reported_together(export_data: Dataset) -> None:
    params = {"logistic": {"l2": -1.0}, "lightgbm": {"trees": 3}}
    with pytest.raises(ConfigurationError) as caught:
        out_of_fold(export_data, make_folds(export_data), QUICK, params, seed=3, window=8)
    assert len(caught.value.faults) == 2


def test_nested_blocks_are_predicted_from_the_third_on(oof: pd.DataFrame, export_data: Dataset) -> None:
    nested = nested_ensemble(oof, export_data)
    assert nested["fold"].unique().tolist() == [3, 4]
    assert nested["probability"].between(0.0, 1.0).all()
    assert nested["confidence"].between(0.0, 1.0).all()
    y = export_data.y[nested["row"]]
    loss = {
        name: -np.mean(np.log(np.where(y > 0.5, nested[name], 1 - nested[name])))
        for name in nested.columns[2:-1]
    }
    assert loss["probability"] < loss["base_rate"] - 0.02


def test_nested_prediction_of_a_block_ignores_its_outcomes_and_those_that_reach_into_it(
    oof: pd.DataFrame, export_data: Dataset
) -> None:
    day = export_data.times[1]
    long = replace(export_data, t1=export_data.times + 10 * day)
    changed = long.y.copy()
    changed[791:] = 1.0 - changed[791:]
    before = nested_ensemble(oof, long).query("fold == 3")
    after = nested_ensemble(oof, replace(long, y=changed)).query("fold == 3")
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_models_that_know_nothing_do_not_beat_the_baseline(oof: pd.DataFrame, export_data: Dataset) -> None:
    """Tracking the rate of recent blocks is no skill: the ensemble of base rates is the baseline."""
    nothing = oof.assign(logistic=oof["base_rate"], lightgbm=oof["base_rate"])
    drifting = replace(export_data, y=(np.arange(1200) % 10 < np.arange(1200) / 150).astype(np.float64))
    nested = nested_ensemble(nothing, drifting)
    baseline = nested_baseline(nothing, drifting)
    np.testing.assert_allclose(nested["probability"], baseline, rtol=1e-9)
    losses = {
        name: log_loss(drifting.y[nested["row"]], p)
        for name, p in {"raw": nested["base_rate"], "recalibrated": baseline}.items()
    }
    assert losses["recalibrated"] < losses["raw"]


def test_two_folds_are_too_few_and_the_error_says_how_many_rows(
    oof: pd.DataFrame, export_data: Dataset
) -> None:
    with pytest.raises(DataError, match=r"2 folds: the ensemble needs 3 .* about 1400 labelled rows"):
        nested_ensemble(oof[oof["fold"] <= 2], export_data)


def test_blocks_shorter_than_the_horizon_are_refused(oof: pd.DataFrame, export_data: Dataset) -> None:
    far = replace(export_data, t1=export_data.times + 300 * export_data.times[1])
    with pytest.raises(DataError, match="0 rows after purging"):
        nested_ensemble(oof, far)


def test_final_ensemble_repeats_bit_for_bit(oof: pd.DataFrame, export_data: Dataset, tmp_path: Path) -> None:
    for name in ("one", "two"):
        ensemble = fit_final(export_data, oof, {}, seed=3, window=8)
        ensemble.save(tmp_path / name)
    assert list(ensemble.fitted) == QUICK
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")


def test_canary_random_walk_with_overlapping_labels_shows_no_skill() -> None:
    """Shuffled folds score .87 accuracy on this; purged walk-forward must not see a signal."""
    rng = np.random.default_rng(8)
    index = pd.date_range("2000-01-03 21:00", periods=3000, freq="D", tz="UTC", name="timestamp")
    close = pd.Series(100.0 * np.exp(np.cumsum(0.01 * rng.normal(size=3000))), index=index)
    features = pd.DataFrame({f"momentum_{k}": close / close.shift(k) - 1.0 for k in (1, 5, 10, 20, 40)})
    labels = make_labels(pd.DataFrame({"close": close}), horizon=20)
    data = Dataset.from_frames(features, labels)
    folds = walk_forward(data.times, data.t1, train_rows=1000, test_rows=250)
    table = out_of_fold(data, folds, ["logistic", "lightgbm"], {}, seed=3, window=8)
    y = data.y[table["row"]]
    for name in ("logistic", "lightgbm"):
        assert 0.4 < ((table[name] > 0.5) == (y > 0.5)).mean() < 0.6

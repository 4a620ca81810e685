"""Folds in processes, the nested ensemble, the final fit, combinatorial paths."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigurationError, DataError
from core.files import directory_hashes
from evaluation.classification import log_loss
from evaluation.splits import Fold, combinatorial, walk_forward
from models.columns import from_columns, model_names, to_columns
from models.dataset import Dataset
from models.fitting import Progress
from models.labels import make_labels
from models.training import (
    OutOfFold,
    combinatorial_paths,
    fit_final,
    nested_baseline,
    nested_ensemble,
    out_of_fold,
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["base_rate", "logistic", "lightgbm"]
SEEDED: dict[str, Any] = {"seed": 3, "window": 8}


def make_folds(data: Dataset) -> list[Fold]:
    return walk_forward(data.times, data.t1, train_rows=400, test_rows=200)


@pytest.fixture(scope="module")
def found(export_data: Dataset) -> OutOfFold:
    return out_of_fold(export_data, make_folds(export_data), QUICK, {}, **SEEDED)


@pytest.fixture(scope="module")
def oof(found: OutOfFold) -> pd.DataFrame:
    return found.predictions


@pytest.fixture(scope="module")
def three(three_class_data: Dataset) -> OutOfFold:
    return out_of_fold(three_class_data, make_folds(three_class_data), QUICK, {}, **SEEDED)


def test_table_has_every_test_row_once(oof: pd.DataFrame) -> None:
    assert oof.columns.tolist() == ["row", "fold", *QUICK]
    assert oof["row"].tolist() == list(range(400, 1200))
    assert oof["fold"].unique().tolist() == [1, 2, 3, 4]


def test_three_classes_have_a_column_for_the_one_between(three: OutOfFold) -> None:
    table = three.predictions
    columns = ["row", "fold", *(c for name in QUICK for c in (name, f"{name}.flat"))]
    assert table.columns.tolist() == columns
    assert model_names(table) == QUICK
    for name in QUICK:
        p = from_columns(table, name, ("down", "flat", "up"))
        assert (p > 0.0).all()
        again = to_columns(name, p, ("down", "flat", "up"))
        for column, values in again.items():
            np.testing.assert_array_equal(values, table[column])


def test_importance_is_of_the_last_fold_and_knows_the_features_that_matter(
    found: OutOfFold, three: OutOfFold
) -> None:
    for outcome in (found, three):
        table = outcome.importance
        assert table.columns.tolist() == ["feature", "family", "permutation", "permutation_std", "shap"]
        assert table.groupby("family")["feature"].nunique().to_dict() == {"logistic": 10, "lightgbm": 10}
        for _, own in table.groupby("family"):
            assert own.set_index("feature")["permutation"].idxmax() == "f0"
            assert own["shap"].notna().all()


def test_processes_change_nothing_but_time(export_data: Dataset, tmp_path: Path) -> None:
    folds = make_folds(export_data)[:3]
    families = ["base_rate", "logistic", "catboost", "lstm"]
    params = {"lstm": {"max_epochs": 2}}
    seen: list[Progress] = []
    alone = out_of_fold(export_data, folds, families, params, **SEEDED)
    spread = out_of_fold(export_data, folds, families, params, **SEEDED, processes=2, on_progress=seen.append)
    pd.testing.assert_frame_equal(alone.predictions, spread.predictions, check_exact=True)
    pd.testing.assert_frame_equal(alone.importance, spread.importance, check_exact=True)
    for name, outcome in (("alone", alone), ("spread", spread)):
        fit_final(export_data, outcome, window=8).save(tmp_path / name)
    assert directory_hashes(tmp_path / "alone") == directory_hashes(tmp_path / "spread")
    assert [p.done for p in seen] == list(range(1, 17))
    assert {(p.fold, p.family) for p in seen} == {(k, name) for k in (0, 1, 2, 3) for name in families}


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
            **SEEDED,
            processes=processes,
        )


def test_one_class_in_a_fold_is_found_before_anything_is_fitted(export_data: Dataset) -> None:
    y = np.where(np.arange(1200) < 400, 1.0, export_data.y)
    with pytest.raises(DataError, match=r"fold 1: training rows hold one class only \(400 rows"):
        out_of_fold(replace(export_data, y=y), make_folds(export_data), QUICK, {}, **SEEDED)


def test_a_fold_without_the_third_class_is_named(three_class_data: Dataset) -> None:
    y = np.where((np.arange(1200) < 400) & (three_class_data.y == 1.0), 2.0, three_class_data.y)
    with pytest.raises(DataError, match=r"fold 1: training rows hold too few classes \(400 rows.*flat 0"):
        out_of_fold(replace(three_class_data, y=y), make_folds(three_class_data), QUICK, {}, **SEEDED)


def test_features_that_never_change_are_refused_only_when_all_are(export_data: Dataset) -> None:
    x = np.ones_like(export_data.x)
    x[400:] = export_data.x[400:]
    folds = make_folds(export_data)
    with pytest.raises(DataError, match=r"fold 1: none of 10 features takes two values in 400 training rows"):
        out_of_fold(replace(export_data, x=x), folds, QUICK, {}, **SEEDED)
    one = export_data.x.copy()
    one[:, 4] = 3.0
    one[:, 5] = np.nan
    told = out_of_fold(replace(export_data, x=one), folds[:1], QUICK, {}, **SEEDED, final=False)
    assert told.predictions[QUICK].notna().all(axis=None)


def test_no_folds_are_refused(export_data: Dataset) -> None:
    with pytest.raises(DataError, match="0 folds: at least 1"):
        out_of_fold(export_data, [], QUICK, {}, **SEEDED)


@pytest.mark.parametrize("processes", [1, 2])
def test_faults_of_all_families_are_reported_together(export_data: Dataset, processes: int) -> None:
    params: dict[str, dict[str, Any]] = {"logistic": {"l2": -1.0}, "lightgbm": {"trees": 3}}
    with pytest.raises(ConfigurationError) as caught:
        out_of_fold(export_data, make_folds(export_data), QUICK, params, **SEEDED, processes=processes)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigurationError, match="'forest' is unknown"):
        out_of_fold(export_data, make_folds(export_data), ["forest"], {}, **SEEDED)


@pytest.mark.parametrize("method", ["stack", "blend", "vote"])
@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "temperature"])
def test_nested_blocks_are_predicted_from_the_third_on(
    oof: pd.DataFrame, export_data: Dataset, method: Any, calibration: Any
) -> None:
    nested = nested_ensemble(oof, export_data, method=method, calibration=calibration)
    assert nested.columns.tolist() == [*oof.columns, "probability", "signal", "confidence"]
    assert nested["fold"].unique().tolist() == [3, 4]
    assert nested["confidence"].between(0.0, 1.0).all()
    np.testing.assert_array_equal(nested["signal"], nested["probability"])
    y = export_data.y[nested["row"]]
    loss = {name: log_loss(y, nested[name].to_numpy()) for name in ("probability", "base_rate")}
    assert loss["probability"] < loss["base_rate"] - 0.02


@pytest.mark.parametrize("method", ["stack", "blend", "vote"])
def test_nested_prediction_of_three_classes(three: OutOfFold, three_class_data: Dataset, method: Any) -> None:
    nested = nested_ensemble(three.predictions, three_class_data, method=method)
    p = from_columns(nested, "probability", three_class_data.classes)
    assert (p > 0.0).all()
    np.testing.assert_allclose(nested["signal"], p[:, 2] + 0.5 * p[:, 1], rtol=1e-12)
    baseline = nested_baseline(three.predictions, three_class_data, method=method)
    own = three_class_data.y[nested["row"]].astype(int), np.arange(len(nested))
    assert -np.log(p[own[1], own[0]]).mean() < -np.log(baseline[own[1], own[0]]).mean() - 0.02


def test_a_meta_target_keeps_the_side_of_its_primary_signal(meta_data: Dataset) -> None:
    oof = out_of_fold(meta_data, make_folds(meta_data), QUICK, {}, **SEEDED, final=False).predictions
    nested = nested_ensemble(oof, meta_data)
    side = np.nan_to_num(np.sign(meta_data.x[nested["row"], -1]))
    assert (np.sign(nested["signal"] - 0.5) * side >= 0.0).all()
    assert (nested["signal"][side == 0.0] == 0.5).all()
    assert (nested["signal"] != 0.5).any()


@pytest.mark.parametrize("method", ["stack", "blend", "vote"])
def test_nested_prediction_of_a_block_ignores_its_outcomes_and_those_that_reach_into_it(
    oof: pd.DataFrame, export_data: Dataset, method: Any
) -> None:
    day = export_data.times[1]
    long = replace(export_data, t1=export_data.times + 10 * day)
    changed = long.y.copy()
    changed[791:] = 1.0 - changed[791:]
    before = nested_ensemble(oof, long, method=method).query("fold == 3")
    after = nested_ensemble(oof, replace(long, y=changed), method=method).query("fold == 3")
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    changed[785:] = 1.0 - long.y[785:]
    known = nested_ensemble(oof, replace(long, y=changed), method=method).query("fold == 3")
    assert (known["confidence"] != before["confidence"]).all()


def test_labels_that_overlap_make_skill_less_certain(oof: pd.DataFrame, export_data: Dataset) -> None:
    """The same rows and losses, each label ten bars long instead of one, though every weight is 1."""
    noisy = oof.assign(
        logistic=oof["base_rate"] + 0.1 * (oof["logistic"] - oof["base_rate"]), lightgbm=oof["base_rate"]
    )
    long = replace(export_data, t1=export_data.times + 10 * export_data.times[1])
    short_skill, long_skill = (
        (nested["confidence"] / (2.0 * nested["probability"] - 1.0).abs()).median()
        for nested in (nested_ensemble(noisy, data, method="vote") for data in (export_data, long))
    )
    assert 0.5 < long_skill < short_skill - 0.02


def test_models_that_know_nothing_do_not_beat_the_baseline(oof: pd.DataFrame, export_data: Dataset) -> None:
    """Tracking the rate of recent blocks is no skill: the ensemble of base rates is the baseline."""
    nothing = oof.assign(logistic=oof["base_rate"], lightgbm=oof["base_rate"])
    drifting = replace(export_data, y=(np.arange(1200) % 10 < np.arange(1200) / 150).astype(np.float64))
    nested = nested_ensemble(nothing, drifting)
    baseline = nested_baseline(nothing, drifting)[:, 1]
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
    far = replace(export_data, t1=export_data.times + 300 * (export_data.times[1] - export_data.times[0]))
    said = r"fold 1: 200 test rows, and 0 after purging .* spans? 300 rows: splits.test_rows of at least 300"
    with pytest.raises(DataError, match=said):
        nested_ensemble(oof, far)


def test_folds_that_make_no_ensemble_are_refused_before_anything_is_fitted(export_data: Dataset) -> None:
    told: list[Progress] = []
    with pytest.raises(DataError, match="2 folds: the ensemble needs 3"):
        out_of_fold(export_data, make_folds(export_data)[:2], QUICK, {}, **SEEDED, on_progress=told.append)
    assert not told


def test_a_window_beyond_a_folds_rows_is_refused_and_bounds_no_tabular_model(export_data: Dataset) -> None:
    folds, long = make_folds(export_data)[:3], {"seed": 3, "window": 401}
    with pytest.raises(DataError, match=r"fold 1: train\.window = 401 is more than its \d+ training rows"):
        out_of_fold(export_data, folds, ["base_rate", "lstm"], {}, **long)
    out_of_fold(export_data, folds, ["base_rate"], {}, **long)


def test_a_fit_that_diverges_names_fold_and_family(export_data: Dataset) -> None:
    params = {"lstm": {"learning_rate": 1e9, "max_epochs": 2}}
    with pytest.raises(
        DataError, match=r"fold \d, lstm: \d+ of 200 predictions are not numbers, .*learning_rate"
    ):
        out_of_fold(export_data, make_folds(export_data), ["base_rate", "lstm"], params, **SEEDED)


@pytest.mark.parametrize("method", ["stack", "blend", "vote"])
def test_final_ensemble_repeats_bit_for_bit(
    found: OutOfFold, export_data: Dataset, tmp_path: Path, method: Any
) -> None:
    for name in ("one", "two"):
        ensemble = fit_final(export_data, found, window=8, method=method)
        ensemble.save(tmp_path / name)
    assert list(ensemble.fitted) == QUICK
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")


def test_workers_and_their_parent_load_no_more_than_they_need(export_data: Dataset, tmp_path: Path) -> None:
    """A library takes longer to load than many fits: the final models cross as files, unread."""
    export_data.save(tmp_path)
    script = """
import sys
from pathlib import Path
from evaluation.splits import walk_forward
from models.dataset import Dataset
from models.training import fit_final, out_of_fold

if __name__ == "__main__":
    data = Dataset.open_shared(Path(sys.argv[1]))
    folds = walk_forward(data.times, data.t1, train_rows=400, test_rows=250)
    found = out_of_fold(data, folds, ["base_rate", "logistic", "catboost"], {}, seed=3, window=8, processes=2)
    (out := Path(sys.argv[1]) / "out").mkdir()
    fit_final(data, found, window=8).save(out)
    print(sorted({"torch", "catboost", "lightgbm", "sklearn"} & set(sys.modules)), len(list(out.iterdir())))
"""
    (tmp_path / "job.py").write_text(script)
    told = subprocess.run(
        [sys.executable, str(tmp_path / "job.py"), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split("\n")[0] == "[] 4"


def test_models_of_the_final_ensemble_have_seen_every_row(found: OutOfFold, export_data: Dataset) -> None:
    rate = found.fitted["base_rate"].predict(export_data.x, np.arange(1))
    np.testing.assert_allclose(rate[0, 1], export_data.y.mean(), rtol=1e-12)


def test_a_final_fit_needs_final_models(found: OutOfFold, export_data: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="final=True"):
        fit_final(export_data, replace(found, fitted={}), window=8)


@pytest.fixture(scope="module")
def histories(export_data: Dataset) -> pd.DataFrame:
    return combinatorial_paths(export_data, 4, 2, 3, ["base_rate", "logistic"], {}, **SEEDED, processes=1)


def test_every_path_predicts_every_row_once(histories: pd.DataFrame) -> None:
    assert histories.columns.tolist() == ["path", "row", "base_rate", "logistic", "probability", "signal"]
    assert histories["path"].unique().tolist() == [1, 2, 3]
    for _, history in histories.groupby("path"):
        assert history["row"].tolist() == list(range(1200))
    np.testing.assert_allclose(histories["probability"], histories["logistic"], rtol=1e-9)


def test_paths_hold_the_folds_predictions(histories: pd.DataFrame, export_data: Dataset) -> None:
    """Every fold's test rows, fitted one by one, are in exactly one path each."""
    folds = combinatorial(export_data.times, export_data.t1, groups=4, test_groups=2, embargo=3)
    direct = out_of_fold(export_data, folds, ["base_rate"], {}, **SEEDED, final=False).predictions
    expected = direct.groupby("row")["base_rate"].apply(sorted)
    held = histories.groupby("row")["base_rate"].apply(sorted)
    assert held.tolist() == expected.tolist()


def test_paths_are_out_of_sample(histories: pd.DataFrame, export_data: Dataset) -> None:
    """Outcomes of a group that a fold tests, and those purged around it, do not move its predictions."""
    y = export_data.y.copy()
    y[:300] = 1.0 - y[:300]
    other = combinatorial_paths(
        replace(export_data, y=y), 4, 2, 3, ["base_rate", "logistic"], {}, **SEEDED, processes=1
    )
    own = histories["row"] < 300
    pd.testing.assert_frame_equal(histories[own], other[own], check_exact=True)
    assert (histories[~own]["logistic"] != other[~own]["logistic"]).any()


def test_canary_random_walk_with_overlapping_labels_shows_no_skill() -> None:
    """Shuffled folds score .87 accuracy on this; purged walk-forward must not see a signal."""
    rng = np.random.default_rng(8)
    index = pd.date_range("2000-01-03 21:00", periods=3000, freq="D", tz="UTC", name="timestamp")
    close = pd.Series(100.0 * np.exp(np.cumsum(0.01 * rng.normal(size=3000))), index=index)
    features = pd.DataFrame({f"momentum_{k}": close / close.shift(k) - 1.0 for k in (1, 5, 10, 20, 40)})
    labels = make_labels(pd.DataFrame({"close": close}), horizon=20)
    data = Dataset.from_frames(features, labels)
    folds = walk_forward(data.times, data.t1, train_rows=1000, test_rows=250)
    table = out_of_fold(data, folds, ["logistic", "lightgbm"], {}, **SEEDED, final=False).predictions
    y = data.y[table["row"]]
    for name in ("logistic", "lightgbm"):
        assert 0.4 < ((table[name] > 0.5) == (y > 0.5)).mean() < 0.6

import json

import numpy as np
import pytest

from core.errors import DataError
from evaluation import classification
from evaluation.evidence import BACKTEST_KEYS, assemble


def test_document_is_plain_json(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_metrics_are_on_the_same_rows(inputs, record):
    assert record["rows"] == 3000
    assert record["folds"] == 6
    for name, figures in record["models"].items():
        assert figures["n"] == 3000
        assert figures["log_loss"] == pytest.approx(
            classification.log_loss(inputs["y"], inputs["probabilities"][name])
        )
        assert np.mean(figures["log_loss_by_fold"]) == pytest.approx(figures["log_loss"])


def test_every_candidate_and_extra_trial_is_counted(inputs):
    record = assemble(**inputs, extra_trials={"tuning-1": 0.03, "tuning-2": float("nan")})
    names = [trial["name"] for trial in record["trials"]]
    assert names == ["base_rate", "logistic", "lightgbm", "ensemble", "tuning-1", "tuning-2"]
    assert record["trials"][-1]["sharpe"] == 0.0


@pytest.mark.parametrize(("horizon", "bins"), [(1, 10), (5, 3), (20, 1)])
def test_overlapping_labels_leave_fewer_bins_to_judge_calibration_in(inputs, horizon, bins):
    assert assemble(**{**inputs, "horizon": horizon})["calibration"]["bins"] == bins


def test_a_bias_of_a_tenth_is_no_chance_however_long_the_labels(inputs):
    inputs["probabilities"]["ensemble"] = np.clip(inputs["probabilities"]["ensemble"] + 0.1, 0, 1)
    for horizon in (1, 5, 20):
        found = assemble(**{**inputs, "horizon": horizon})["calibration"]
        assert found["ece"] > 0.02 + found["noise"]


def test_base_models_are_all_but_primary_and_baseline(inputs, record):
    assert record["base_models"] == ["lightgbm", "logistic"]
    assert assemble(**inputs, base_models=["logistic"])["base_models"] == ["logistic"]


def test_invalid_predictions_are_counted_and_left_out(inputs):
    broken = inputs["probabilities"]["logistic"].copy()
    broken[:3] = [np.nan, np.inf, 1.5]
    inputs["probabilities"]["logistic"] = broken
    record = assemble(**inputs)
    assert record["invalid"] == {"base_rate": 0, "logistic": 3, "lightgbm": 0, "ensemble": 0}
    assert record["rows"] == 2997
    assert {figures["n"] for figures in record["models"].values()} == {2997}


def test_undefined_figures_are_none(inputs):
    inputs["backtests"]["ensemble"] = {**inputs["backtests"]["ensemble"], "sharpe": float("nan")}
    inputs["y"] = np.ones(3000)
    record = assemble(**inputs)
    assert record["backtest"]["sharpe"] is None
    assert record["models"]["ensemble"]["auc"] is None


def test_two_rows_are_too_few_for_the_test_but_no_crash(inputs):
    inputs["y"], inputs["fold_ids"] = inputs["y"][:2], inputs["fold_ids"][:2]
    inputs["probabilities"] = {name: p[:2] for name, p in inputs["probabilities"].items()}
    assert assemble(**inputs)["skill"]["p_value"] is None


def test_refusals(inputs):
    with pytest.raises(DataError, match="lengths differ"):
        assemble(**{**inputs, "fold_ids": [1]})
    without = {name: p for name, p in inputs["probabilities"].items() if name != "ensemble"}
    with pytest.raises(DataError, match="needs probabilities of 'ensemble' and 'base_rate'"):
        assemble(**{**inputs, "probabilities": without})
    with pytest.raises(DataError, match="summary of benchmark lacks trades"):
        assemble(**{**inputs, "benchmark": {key: 0.0 for key in BACKTEST_KEYS if key != "trades"}})
    with pytest.raises(DataError, match="none of 3000 rows"):
        assemble(
            **{**inputs, "probabilities": {**inputs["probabilities"], "ensemble": np.full(3000, np.nan)}}
        )

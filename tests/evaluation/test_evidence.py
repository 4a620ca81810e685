import json

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from evaluation import accounts, classification, overfitting, performance
from evaluation.accounts import Accounts, Resampling
from evaluation.evidence import BACKTEST_KEYS, TOP, assemble


def test_document_is_plain_json(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_every_section_is_plain_json(whole):
    record = assemble(**whole)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert None not in (record[name] for name in ("overfitting", "spa", "intervals", "regimes", "paths"))


def test_metrics_are_on_the_same_rows(inputs, record):
    assert record["rows"] == 3000
    assert record["folds"] == 6
    for name, figures in record["models"].items():
        assert figures["n"] == 3000
        assert figures["log_loss"] == pytest.approx(
            classification.log_loss(inputs["y"], inputs["probabilities"][name])
        )
        assert np.mean(figures["log_loss_by_fold"]) == pytest.approx(figures["log_loss"])


def test_every_candidate_is_a_trial_and_one_that_never_traded_earned_nothing(inputs):
    idle = {**inputs["backtests"]["logistic"], "sharpe_per_period": float("nan")}
    record = assemble(**{**inputs, "backtests": {**inputs["backtests"], "logistic": idle}})
    found = {trial["name"]: trial["sharpe"] for trial in record["trials"]}
    assert list(found) == ["base_rate", "logistic", "lightgbm", "ensemble"]
    assert found["logistic"] == 0.0
    assert found["ensemble"] == inputs["backtests"]["ensemble"]["sharpe_per_period"]


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
    with pytest.raises(DataError, match="one column per class"):
        assemble(**{**inputs, "classes": ("down", "flat", "up")})


def test_two_columns_give_the_evidence_of_one_exactly(whole):
    one = assemble(**whole)
    table = {name: np.column_stack([1 - p, p]) for name, p in whole["probabilities"].items()}
    assert assemble(**{**whole, "probabilities": table}) == one


def test_three_classes(inputs):
    rng = np.random.default_rng(0)
    table = {name: rng.dirichlet(np.ones(3), 3000) for name in inputs["probabilities"]}
    table["logistic"][5] = [0.5, 0.5, 0.5]
    y = rng.integers(0, 3, 3000)
    record = assemble(**{**inputs, "y": y, "probabilities": table, "classes": ("down", "flat", "up")})
    kept = np.arange(3000) != 5
    assert record["invalid"]["logistic"] == 1
    assert [of["name"] for of in record["classes"]] == ["down", "flat", "up"]
    assert [of["share"] for of in record["classes"]] == pytest.approx(np.bincount(y[kept]) / 2999)
    assert record["positives"] == record["classes"][2]["share"]
    first, second = (
        classification.log_loss(y[kept], table[name][kept]) for name in ("base_rate", "ensemble")
    )
    assert record["skill"]["difference"] == pytest.approx(first - second)
    last = classification.auc(y[kept] == 2, table["ensemble"][kept, 2])
    assert record["models"]["ensemble"]["auc"] == pytest.approx(last)


def test_track_record(inputs, record):
    figures = inputs["backtests"]["ensemble"]
    found = record["track_record"]
    assert found["psr"] == pytest.approx(figures["psr"])
    moments = figures["skew"], figures["kurtosis"]
    assert overfitting.psr(figures["sharpe_per_period"], found["needed"], *moments) >= 0.95
    assert overfitting.psr(figures["sharpe_per_period"], found["needed"] - 1, *moments) < 0.95
    assert (found["rows"], found["reason"]) == (3000, None)


@pytest.mark.parametrize(
    ("sharpe", "psr", "words"), [(-0.02, True, "is not above 0"), (float("nan"), False, "never moved")]
)
def test_no_record_is_long_enough(inputs, sharpe, psr, words):
    inputs["backtests"]["ensemble"] = {**inputs["backtests"]["ensemble"], "sharpe_per_period": sharpe}
    found = assemble(**inputs)["track_record"]
    assert found["needed"] is None
    assert (found["psr"] is not None) == psr
    assert words in found["reason"]


def test_importance_is_the_mean_over_families_or_the_primarys_own(inputs, record):
    found = record["importance"]
    assert found["of"] == "mean of lightgbm, logistic"
    assert [row["feature"] for row in found["features"][:2]] == ["feature_0", "feature_1"]
    assert found["features"][0]["permutation"] == pytest.approx(0.005)
    assert found["features"][0]["permutation_std"] == pytest.approx(0.001 / 2**0.5)
    assert (found["leader"], found["share"]) == ("feature_0", pytest.approx(5 / 9))
    table = inputs["importance"]
    own = table[table["family"] == "logistic"].assign(family="ensemble", shap=np.nan)
    found = assemble(**{**inputs, "importance": pd.concat([table, own])})["importance"]
    assert found["of"] == "ensemble"
    assert found["share"] == pytest.approx(4 / 9)
    assert {row["shap"] for row in found["features"]} == {None}


def test_importance_of_nothing_and_of_much(inputs):
    table = inputs["importance"]
    found = assemble(**{**inputs, "importance": table.assign(permutation=-0.001)})["importance"]
    assert (found["leader"], found["share"]) == (None, None)
    many = pd.DataFrame({"feature": [f"f{i:03d}" for i in range(99)], "family": "a", "shap": 0.0})
    many = many.assign(permutation=np.arange(99.0), permutation_std=0.0)
    found = assemble(**{**inputs, "importance": many})["importance"]
    assert len(found["features"]) == TOP
    assert found["leader"] == "f098"


def test_overfitting(whole):
    found = assemble(**whole)["overfitting"]
    table = np.column_stack(list(whole["accounts"].returns.values()))
    assert found["pbo"] == overfitting.pbo(table, 16).probability
    assert (found["candidates"], found["splits"], found["reason"]) == (4, 12_870, None)


def test_intervals_hold_their_estimates(inputs, whole):
    record = assemble(**whole)
    found = record["intervals"]
    figures = found["figures"]
    assert figures["sharpe"]["estimate"] == pytest.approx(record["backtest"]["sharpe"])
    assert figures["benchmark_sharpe"]["estimate"] == pytest.approx(record["benchmark"]["sharpe"])
    assert figures["max_drawdown"]["estimate"] == pytest.approx(record["backtest"]["max_drawdown"])
    assert figures["log_loss_gain"]["estimate"] == pytest.approx(record["skill"]["difference"])
    assert figures["hit_rate"]["estimate"] == pytest.approx(record["models"]["ensemble"]["hit_rate"])
    for name in ("sharpe", "benchmark_sharpe", "sharpe_excess", "log_loss_gain", "hit_rate"):
        assert figures[name]["low"] < figures[name]["estimate"] < figures[name]["high"]
    # the standard error of a Sharpe over 3,000 days is about √(252 / 3000) a year
    width = figures["sharpe"]["high"] - figures["sharpe"]["low"]
    assert width == pytest.approx(2 * 1.96 * (252 / 3000) ** 0.5, rel=0.2)
    assert found["block_rows"] >= inputs["horizon"]


def test_superior_ability_tells_skill_from_none(whole):
    found = assemble(**whole)["spa"]
    assert found["primary"]["lower"] <= found["primary"]["consistent"] <= found["primary"]["upper"]
    assert found["superior"] == ["ensemble"]
    # the luckiest of four is less of a surprise than one alone
    assert found["best"]["consistent"] >= found["primary"]["consistent"]
    held = whole["accounts"]
    idle = Accounts(dict.fromkeys(held.returns, held.benchmark), held.benchmark, 252)
    found = assemble(**{**whole, "accounts": idle})["spa"]
    assert (found["best"]["consistent"], found["superior"]) == (1.0, [])


def test_regimes_cover_the_rows_they_name(whole):
    record = assemble(**whole)
    found = record["regimes"]
    assert list(found["kinds"]) == ["volatility", "trend", "year"]
    for parts in found["kinds"].values():
        assert sum(part["rows"] for part in parts) == 3000
        gain = sum(part["rows"] * part["log_loss_gain"] for part in parts) / 3000
        assert gain == pytest.approx(record["skill"]["difference"])
    assert found["warnings"] == []


def test_skill_in_one_regime_alone_is_flagged(whole):
    up = whole["accounts"].row_regimes["trend"] == "up"
    table = whole["probabilities"]
    table["ensemble"] = np.where(up, table["ensemble"], 0.689 - 0.3 * table["ensemble"])
    (warning,) = [w for w in assemble(**whole)["regimes"]["warnings"] if "trend" in w]
    assert f"All of the skill sits in trend up ({up.sum()} of 3000 rows)" in warning


def test_rows_left_out_are_left_out_of_every_section(whole):
    broken = whole["probabilities"]["logistic"].copy()
    broken[:100] = np.nan
    record = assemble(**{**whole, "probabilities": {**whole["probabilities"], "logistic": broken}})
    parts = record["regimes"]["kinds"]["trend"]
    assert sum(part["rows"] for part in parts) == 2900 == record["rows"]


def test_short_records_say_why_there_is_no_figure(whole):
    short = Accounts({name: np.full(10, 0.01) for name in whole["backtests"]}, np.zeros(10), 252)
    record = assemble(**{**whole, "accounts": short})
    assert "4 candidates over 10 bars: needs 2 candidates and 32 bars" in record["overfitting"]["reason"]
    assert record["spa"]["reason"] == "10 bars: the bootstrap needs 20"
    assert record["intervals"]["figures"] == {}
    one = Accounts({"ensemble": performance.equity(np.full(50, 0.001)) - 1}, np.zeros(50), 252)
    assert assemble(**{**whole, "accounts": one})["overfitting"]["pbo"] is None


def test_the_seed_decides_the_draws(whole):
    held = whole["accounts"]
    drawn = [assemble(**{**whole, "resampling": Resampling(100, seed)})["intervals"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert accounts.RESAMPLING.replications == 1000
    assert held.periods == 252


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"returns": {"logistic": np.zeros(3000)}}, "needs returns of 'ensemble'"),
        ({"returns": {"ensemble": np.zeros(5)}}, r"returns of lengths \{'ensemble': 5\}: need 3000"),
        ({"bar_regimes": {"year": np.full(3000, "a")}}, "the same regimes of both"),
        (
            {"bar_regimes": {"a": np.full(3000, "x")}, "row_regimes": {"a": np.full(2, "x")}},
            "regimes of rows of lengths",
        ),
    ],
)
def test_accounts_that_do_not_fit_are_refused(whole, change, message):
    held = whole["accounts"]
    plain = {"returns": held.returns, "benchmark": held.benchmark, "periods": 252}
    with pytest.raises(DataError, match=message):
        assemble(**{**whole, "accounts": Accounts(**{**plain, **change})})


def test_calibration_of_three_classes_is_that_of_the_worst(inputs):
    rng = np.random.default_rng(4)
    p = rng.dirichlet([20.0, 20.0, 20.0], 3000)
    y = (rng.random(3000)[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    moved = np.column_stack([p[:, 0] - 0.1, p[:, 1] + 0.1, p[:, 2]])

    def calibration(primary):
        table = dict.fromkeys(inputs["probabilities"], p) | {"ensemble": primary}
        given = {"y": y, "probabilities": table, "classes": ("down", "flat", "up"), "horizon": 1}
        return assemble(**{**inputs, **given})["calibration"]

    assert calibration(p)["ece"] <= calibration(p)["noise"]
    assert calibration(moved)["ece"] == pytest.approx(0.1, abs=0.02)

"""Each rule says no for its own reason, and only then."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from core.errors import DataError
from evaluation import gates, performance
from evaluation.comparison import Comparison, paired
from evaluation.evidence import assemble
from evaluation.gates import judge, not_worse, recount
from evaluation.overfitting import dsr
from evaluation.trials import TrialSet, Tried, gather
from evaluation.verdict import ServeRules, TradeRules, Verdict, next_step, verdict

SERVE, TRADE = ServeRules(), TradeRules()


def compare(champion, challenger, y, worse_p=0.05, **rules):
    return not_worse(paired(champion, challenger, y), worse_p=worse_p, **rules)


def failed(verdict: Verdict) -> list[str]:
    return [check.rule for check in verdict.checks if not check.passed]


def test_a_good_record_passes_everything(record, parity):
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault=None)
    assert failed(verdict) == []
    assert (verdict.integrity, verdict.servable, verdict.tradable) == (True, True, True)
    assert verdict.reasons == ()
    assert all(check.reason for check in verdict.checks)


@pytest.mark.parametrize(
    ("path", "value", "rule", "words"),
    [
        (("rows",), 120, "enough_rows", "120 out-of-sample rows < 500"),
        (("invalid", "logistic"), 3, "probabilities_valid", "3 of logistic"),
        (("calibration", "ece"), 0.2, "calibrated", "cannot be believed"),
        (("skill", "p_value"), 0.2, "better_than_base_rate", "the features add nothing to the base rate"),
        (("skill", "difference"), -0.001, "better_than_base_rate", "higher than base_rate"),
        (("skill", "p_value"), None, "better_than_base_rate", "Too few rows"),
        (
            ("models", "ensemble", "log_loss"),
            0.6932,
            "better_than_base_rate",
            "who says nothing loses no more",
        ),
        (("backtest", "sharpe_per_period"), 0.01, "deflated_sharpe", "explained by luck"),
        (("backtest", "sharpe_per_period"), None, "deflated_sharpe", "undefined"),
        (("backtest", "trades"), 29, "enough_trades", "29 trades < 30: too few"),
        (("backtest", "sharpe"), 0.3, "beats_benchmark", "0.30 <= 0.40 of buy and hold"),
        (("backtest", "sharpe"), None, "beats_benchmark", "undefined"),
        (("backtest", "max_drawdown"), -0.5, "drawdown", "50.0% > 35.0%"),
        (
            ("backtests", "logistic", "sharpe"),
            3.5,
            "credible_sharpe",
            "Sharpe of logistic 3.500 > 3.000: too good",
        ),
        (("models", "lightgbm", "hit_rate"), 0.7, "credible_hit_rate", "Hit rate of lightgbm 0.700 >"),
        (("models", "lightgbm", "auc"), 0.8, "credible_auc", "AUC of lightgbm 0.800 > 0.750: too good"),
        (("leaks", 0, "passed"), False, "no_leak", "1 leak check of 1 failed > 0: future_shuffled: 120"),
        (("leaks",), None, "no_leak", "No leak check was run"),
        (("leaks",), [], "no_leak", "No leak check was run"),
    ],
)
def test_each_rule_says_no_alone(record, parity, path, value, rule, words):
    target = record
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault=None)
    assert failed(verdict) == [rule]
    assert words in verdict.reasons[0]
    kind = next(check.kind for check in verdict.checks if check.rule == rule)
    assert verdict.integrity == (kind != "integrity")
    assert verdict.servable == (kind == "trade")
    assert not verdict.tradable


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"logistic": 2e-6}, "parity_logistic"),
        ({"logistic": float("nan")}, "parity_logistic"),
        ({"logistic": None}, "parity_logistic"),
        ({"xgboost": 1.0}, "parity_xgboost"),
        ({"probability": 3e-4}, "parity_final"),
        ({"probability": None}, "parity_final"),
        ({"class_probabilities": 3e-4}, "parity_classes"),
        ({"class_probabilities": None}, "parity_classes"),
        ({"confidence": 3e-4}, "parity_confidence"),
        ({"confidence": None}, "parity_confidence"),
    ],
)
def test_parity(record, parity, change, rule):
    figures = {name: value for name, value in {**parity, **change}.items() if value is not None}
    verdict = judge(record, figures, SERVE, TRADE, bundle_fault=None)
    assert failed(verdict) == [rule]
    assert not verdict.integrity


def test_a_damaged_bundle_serves_nothing(record, parity):
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault="model.onnx has SHA-256 12…")
    assert failed(verdict) == ["bundle_intact"]
    assert "model.onnx" in verdict.reasons[0]
    assert not verdict.servable


def test_bundle_fault_names_what_is_wrong(tmp_path):
    assert "manifest.json" in (gates.bundle_fault(tmp_path) or "")


def test_missing_figures_are_named(record, parity):
    del record["benchmark"]["sharpe"]
    with pytest.raises(DataError, match=r"lacks benchmark\.sharpe: run the evaluate stage"):
        judge(record, parity, SERVE, TRADE, bundle_fault=None)


def test_verdict_survives_json(record, parity):
    verdict = judge(record, parity, SERVE, replace(TRADE, min_dsr=1.0), bundle_fault=None)
    assert Verdict.from_dict(verdict.to_dict()) == verdict


def test_a_majority_class_moves_the_limit_on_hits(record, parity):
    record["classes"] = [{"name": "down", "share": 0.3}, {"name": "up", "share": 0.7}]
    record["models"]["ensemble"]["hit_rate"] = 0.75
    assert judge(record, parity, SERVE, TRADE, bundle_fault=None).tradable


@pytest.mark.parametrize(
    ("shares", "limit"),
    [([0.5, 0.5], 0.6), ([0.3, 0.7], 0.8), ([1 / 3] * 3, 0.6), ([0.2, 0.6, 0.2], 0.6 + 0.6 - 1 / 3)],
)
def test_the_limit_on_hits_follows_classes_and_majority(record, parity, shares, limit):
    record["classes"] = [{"name": "a", "share": share} for share in shares]
    checks = judge(record, parity, SERVE, TRADE, bundle_fault=None).checks
    check = next(check for check in checks if check.rule == "credible_hit_rate")
    assert check.threshold == pytest.approx(limit)


def test_recount_uses_number_and_variance_of_all_trials(record):
    sharpes = [trial["sharpe"] for trial in record["trials"]]
    others = [0.09, -0.05, 0.02, 0.07]
    figures = record["backtest"]
    sets = [
        TrialSet("own", len(sharpes), tuple((sharpe, figures["n"]) for sharpe in sharpes)),
        TrialSet("tuning", 4, tuple((sharpe, figures["n"]) for sharpe in others)),
    ]
    tried = gather(sets, figures["n"])
    expected = dsr(
        figures["sharpe_per_period"],
        figures["n"],
        figures["skew"],
        figures["kurtosis"],
        trials=8,
        variance=float(np.var([*sharpes, *others], ddof=1)),
    )
    assert recount(record, tried, TRADE).value == pytest.approx(expected)
    assert "over 8 trials" in recount(record, tried, TRADE).reason


def test_more_trials_never_help(record):
    values = [recount(record, Tried(count), TRADE).value for count in (1, 4, 5, 50, 5000)]
    assert values == sorted(values, reverse=True)
    assert values[0] == values[1] == recount(record, Tried(), TRADE).value
    assert not recount(record, Tried(5000), TRADE).passed


def test_a_few_trials_that_lie_close_by_chance_still_deflate(record):
    """Their own variance would be 0, and luck with it."""
    for trial in record["trials"]:
        trial["sharpe"] = record["backtest"]["sharpe_per_period"]
    figures = record["backtest"]
    expected = dsr(
        figures["sharpe_per_period"],
        figures["n"],
        figures["skew"],
        figures["kurtosis"],
        trials=4,
        variance=1 / (figures["n"] - 1),
    )
    assert recount(record, Tried(), TRADE).value == pytest.approx(expected)


def test_a_single_trial_is_the_probabilistic_sharpe(record):
    record["trials"] = record["trials"][-1:]
    figures = record["backtest"]
    expected = dsr(
        figures["sharpe_per_period"], figures["n"], figures["skew"], figures["kurtosis"], trials=1, variance=0
    )
    assert recount(record, Tried(), TRADE).value == expected
    assert "over 1 trial of this run:" in recount(record, Tried(), TRADE).reason


def test_the_reason_claims_other_trials_only_when_they_were_counted(record):
    assert "over 9 trials, tuning and abandoned runs included:" in recount(record, Tried(9), TRADE).reason
    assert "abandoned" not in recount(record, Tried(), TRADE).reason


def test_noise_is_not_tradable(inputs, parity):
    """Models without skill on returns without drift: the gate lets at most 5 in 100 through."""
    tradable = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        r = rng.normal(0, 0.01, (3000, 4))
        case = copy.copy(inputs)
        case["y"] = (rng.uniform(size=3000) < 0.53).astype(float)
        case["probabilities"] = {
            name: np.clip(0.53 + rng.normal(0, 0.03, 3000) * (name != "base_rate"), 0, 1)
            for name in inputs["probabilities"]
        }
        case["backtests"] = {
            name: {**performance.summary(r[:, i], 252), "trades": 300}
            for i, name in enumerate(inputs["probabilities"])
        }
        tradable += judge(assemble(**case), parity, SERVE, TRADE, bundle_fault=None).tradable
    assert tradable <= 3


def test_challenger():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.3, 0.7, 800)
    y = (rng.uniform(size=800) < p).astype(float)
    worse = np.clip(p + rng.normal(0, 0.2, 800), 0.05, 0.95)
    rules = {"min_rows": 100, "tolerance": 0.001}
    assert compare(worse, p, y, **rules).passed
    assert compare(p, p, y, **rules).passed
    check = compare(p, worse, y, **rules)
    assert not check.passed
    assert check.value > 0.001
    assert "on 800 shared rows" in check.reason
    few = compare(p[:40], p[:40], y[:40], **rules)
    assert not few.passed
    assert "40 rows that champion and challenger share < 100" in few.reason
    untested = not_worse(Comparison(4, 0.7, 0.7, 0.0), min_rows=2, tolerance=1.0, worse_p=0.05)
    assert not untested.passed
    assert "within one label's horizon" in untested.reason


def test_rows_that_both_predict_alike_do_not_hide_a_worse_challenger():
    """After a retrain most shared rows are the same predictions of the same folds."""
    rng = np.random.default_rng(3)
    p = rng.uniform(0.4, 0.6, 4000)
    y = (rng.uniform(size=4000) < p).astype(float)
    inverted = np.where(np.arange(4000) < 3700, p, 1 - p)
    check = compare(p, inverted, y, min_rows=60, tolerance=0.005, worse_p=0.05)
    assert 0 < check.value < 0.005
    assert not check.passed
    assert "the champion is no better: 0.00" in check.reason
    assert compare(inverted, p, y, min_rows=60, tolerance=0.005, worse_p=0.05).passed


def test_rules_are_validated_by_pydantic_and_unknown_ones_refused():
    with pytest.raises(ValidationError) as faults:
        TypeAdapter(TradeRules).validate_python({"min_dsr": 1.5, "min_trade": 3, "max_drawdown": -0.1})
    assert len(faults.value.errors()) == 3
    assert TypeAdapter(ServeRules).validate_python({"min_rows": 10}) == ServeRules(min_rows=10)


def test_gates_are_light_to_import():
    code = (
        "import sys, evaluation.gates; print({'scipy', 'pandas', 'numba', 'matplotlib'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_a_result_too_good_to_be_true_may_not_even_serve(record, parity):
    record["backtests"]["logistic"]["sharpe"] = 12.9
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault=None)
    assert verdict.integrity
    assert not verdict.servable


@pytest.mark.parametrize(
    ("auc", "share", "passed", "words"),
    [
        (0.6, 0.5, True, "x carries 50% <= 80% of the importance: one of several"),
        (0.6, 0.9, True, "x carries 90% > 80% of the importance, and no result is too good to be true"),
        (0.9, 0.5, True, "x carries 50% <= 80% of the importance: one of several"),
        (0.9, 0.9, False, "too good to be true: look at x first"),
        (0.6, None, True, "no result is too good to be true"),
        (0.9, None, False, "No feature's importance is known"),
    ],
)
def test_the_feature_behind_a_result_too_good_to_be_true_is_named(record, parity, auc, share, passed, words):
    record["models"]["logistic"]["auc"] = auc
    record["importance"] = None if share is None else {"leader": "x", "share": share}
    checks = judge(record, parity, SERVE, TRADE, bundle_fault=None).checks
    check = next(check for check in checks if check.rule == "credible_feature")
    assert (check.passed, check.value, check.threshold) == (passed, share, 0.8)
    assert words in check.reason


def test_a_leak_found_refuses_service_whatever_else_is_good(record, parity):
    record["leaks"] = [
        {"check": "split", "passed": True, "detail": "fine"},
        {"check": "features", "passed": False, "detail": "close_next hits 71 %"},
    ]
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault=None)
    assert (verdict.integrity, verdict.servable, verdict.tradable) == (True, False, False)
    assert verdict.reasons == ("1 leak check of 2 failed > 0: features: close_next hits 71 %",)
    assert next_step(verdict).startswith("Remove the leak")


@pytest.mark.parametrize("rule", ["credible_sharpe", "credible_hit_rate", "credible_auc"])
def test_every_failing_rule_has_a_next_step_of_its_own(record, parity, rule):
    fine = next_step(judge(record, parity, SERVE, TRADE, bundle_fault=None))
    none = dict.fromkeys(parity, 1.0)
    everything = judge(record, none, SERVE, TRADE, bundle_fault="x").checks
    for check in everything:
        only = verdict([replace(check, passed=False)])
        assert next_step(only) != fine, check.rule
    both = verdict([replace(c, passed=c.rule not in (rule, "deflated_sharpe")) for c in everything])
    assert next_step(both).startswith("Look for a leak")


def test_three_classes_are_judged_alike(inputs, parity):
    rng = np.random.default_rng(5)
    p = rng.dirichlet([6, 5, 6], 3000)
    y = (rng.uniform(size=3000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    share = np.bincount(y) / 3000
    blurred = (p + 0.05) / 1.15
    table = {"base_rate": np.tile(share, (3000, 1)), "logistic": blurred, "lightgbm": blurred, "ensemble": p}
    names = ("down", "flat", "up")
    record = assemble(**{**inputs, "y": y, "probabilities": table, "classes": names})
    verdict = judge(record, parity, SERVE, TRADE, bundle_fault=None)
    assert failed(verdict) == []
    swapped = {**table, "ensemble": p[:, [1, 0, 2]]}
    worse = assemble(**{**inputs, "y": y, "probabilities": swapped, "classes": names})
    assert "better_than_base_rate" in failed(judge(worse, parity, SERVE, TRADE, bundle_fault=None))

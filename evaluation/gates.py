"""May this model serve, and may it trade? Rules, one reason in words per rule, and the verdict.

Three kinds of check:

- integrity: the artefact is what was trained (parity, valid probabilities, enough rows, intact bundle);
- quality: its probabilities are calibrated, better than a base rate with the same recalibration, no leak
  check found anything, and nothing is too good to be true, which would mean a leak that none of them knows;
- trade: its record after costs is better than luck, given everything that was tried.

A model is `servable` when all of integrity and quality pass, `tradable` when the trade checks pass too.

Inputs are plain dicts: `evidence` as `evaluation.evidence` documents it, `parity` as {base model: largest
absolute difference between ONNX and native probability, "probability", "class_probabilities", "confidence":
those of the final ones}; the key "rows" of `parity` is not judged.

A figure that is missing or undefined never passes. Light to import: standard library and numpy only.
"""

from collections.abc import Mapping
from math import isfinite, log
from pathlib import Path
from statistics import variance
from typing import Any

from core.errors import ArtifactError, DataError
from evaluation.comparison import Comparison
from evaluation.overfitting import dsr, expected_max_sharpe
from evaluation.trials import Tried
from evaluation.verdict import Check, ServeRules, TradeRules, Verdict, verdict

_FINAL = {
    "probability": ("parity_final", "final probability"),
    "class_probabilities": ("parity_classes", "class probabilities"),
    "confidence": ("parity_confidence", "confidence"),
}


def judge(
    evidence: Mapping[str, Any],
    parity: Mapping[str, float],
    serve: ServeRules,
    trade: TradeRules,
    *,
    bundle_fault: str | None,
) -> Verdict:
    """Apply every rule.

    bundle_fault: what is wrong with the bundle's files, None when every hash was verified and matched.
    Raises DataError naming the figure when the evidence lacks one.
    """
    return verdict(
        [
            *_integrity(evidence, parity, serve, bundle_fault),
            _calibrated(evidence, serve),
            _skilled(evidence, serve),
            _no_leak(evidence),
            *_credible(evidence, trade),
            recount(evidence, Tried(), trade),
            _enough_trades(evidence, trade),
            _beats_benchmark(evidence),
            _drawdown(evidence, trade),
        ]
    )


def recount(evidence: Mapping[str, Any], tried: Tried, trade: TradeRules) -> Check:
    """The deflated-Sharpe check over everything `tried`, the evidence's own trials included.

    A smaller number counts as the evidence's own; `Tried()` is the evidence alone. The variance is that of
    all Sharpes known, and at least 1/(n − 1): that of Sharpes estimated from n returns without any skill.
    A few trials that lie close by chance would otherwise leave nothing to deflate.
    """
    record = _get(evidence, "backtest")
    sharpe, n = record.get("sharpe_per_period"), int(_get(evidence, "backtest", "n"))
    known = [float(trial["sharpe"]) for trial in _get(evidence, "trials")]
    counted = max(len(known), tried.count, 1)
    if sharpe is None or n < 2:
        reason = "Deflated Sharpe undefined: the strategy's account never moved"
        return Check("deflated_sharpe", "trade", False, None, trade.min_dsr, reason)
    own = variance(known) if len(known) > 1 else 0.0
    spread = max(tried.variance or own, 1 / (n - 1))
    value = dsr(sharpe, n, record["skew"], record["kurtosis"], trials=counted, variance=spread)
    passed, luck = value >= trade.min_dsr, expected_max_sharpe(spread, counted)
    scope = ", tuning and abandoned runs included" if tried.count else " of this run"
    reason = (
        f"Deflated Sharpe {value:.3f} {_reaches(value, trade.min_dsr)} {trade.min_dsr:g} over "
        f"{_plural(counted, 'trial')}{scope}: the result is "
        f"{'more than luck' if passed else 'explained by luck'} ({sharpe:.4f} per bar over {n} bars; the "
        f"luckiest of {counted} would show {luck:.4f})"
    )
    return Check("deflated_sharpe", "trade", passed, value, trade.min_dsr, reason)


def deflated(evidence: Mapping[str, Any], tried: Tried, trade: TradeRules) -> dict[str, float | None]:
    """Deflated Sharpe of every candidate over everything `tried`; None for one whose account never moved."""
    records = _get(evidence, "backtests").items()
    return {name: recount({**evidence, "backtest": own}, tried, trade).value for name, own in records}


def not_worse(found: Comparison, *, min_rows: int, tolerance: float, worse_p: float) -> Check:
    """May the challenger take the champion's place? `found` is `evaluation.comparison.paired` of the two.

    Passes on `min_rows` rows or more when the challenger's mean log-loss is at most `tolerance` nats worse
    and the paired Diebold-Mariano test does not call it worse: one-sided p above `worse_p`. The mean alone
    would be diluted by the rows that both predict alike, which is most of them after a retrain; the test is
    not.
    """
    rule, worse, p = "challenger_not_worse", found.difference, found.p_not_worse
    if found.rows < min_rows or worse is None or p is None:
        few = f"< {min_rows}" if found.rows < min_rows else "within one label's horizon"
        reason = f"{found.rows} rows that champion and challenger share {few}: too few to compare"
        return Check(rule, "quality", False, None, tolerance, reason)
    p = p if worse > 0 else 1.0
    passed = worse <= tolerance and p > worse_p
    reason = (
        f"Challenger log-loss {found.challenger:.5f} against the champion's {found.champion:.5f} on "
        f"{found.rows} shared rows: difference {worse:+.5f} {_within(worse, tolerance)} {tolerance:g} "
        f"(one-sided p that the champion is no better: {p:.3f} {'>' if p > worse_p else '<='} {worse_p:g})"
    )
    return Check(rule, "quality", passed, worse, tolerance, reason)


def bundle_fault(directory: Path) -> str | None:
    """What is wrong with the files of a bundle, None when every hash matches: for `judge`."""
    from core.bundle import verify

    try:
        verify(directory)
    except ArtifactError as fault:
        return str(fault)
    return None


def _integrity(
    evidence: Mapping[str, Any], parity: Mapping[str, float], rules: ServeRules, fault: str | None
) -> list[Check]:
    bases = sorted({*_get(evidence, "base_models"), *(set(parity) - {*_FINAL, "rows"})})
    return [
        *(_parity(f"parity_{name}", name, parity.get(name), rules.max_parity_base) for name in bases),
        *(_parity(*words, parity.get(key), rules.max_parity_final) for key, words in _FINAL.items()),
        _valid_probabilities(evidence),
        _enough_rows(evidence, rules),
        Check(
            "bundle_intact",
            "integrity",
            fault is None,
            None,
            None,
            "Every file of the bundle has its recorded hash" if fault is None else f"Bundle damaged: {fault}",
        ),
    ]


def _parity(rule: str, name: str, difference: float | None, limit: float) -> Check:
    if difference is None or not isfinite(difference):
        reason = f"Parity of {name} was not measured: ONNX and training library must be compared"
        return Check(rule, "integrity", False, None, limit, reason)
    passed = difference <= limit
    meaning = "what serves is what was trained" if passed else "what would serve is not what was trained"
    reason = f"ONNX {name} differs by {difference:.1e} {_within(difference, limit)} {limit:g}: {meaning}"
    return Check(rule, "integrity", passed, difference, limit, reason)


def _valid_probabilities(evidence: Mapping[str, Any]) -> Check:
    invalid = {name: count for name, count in _get(evidence, "invalid").items() if count}
    named = ", ".join(f"{count} of {name}" for name, count in sorted(invalid.items()))
    reason = f"Predictions not in [0, 1]: {named}" if invalid else "Every probability is finite and in [0, 1]"
    return Check("probabilities_valid", "integrity", not invalid, sum(invalid.values()), 0, reason)


def _enough_rows(evidence: Mapping[str, Any], rules: ServeRules) -> Check:
    rows = int(_get(evidence, "rows"))
    passed = rows >= rules.min_rows
    reason = f"{rows} out-of-sample rows {_reaches(rows, rules.min_rows)} {rules.min_rows}: "
    reason += "enough to judge by" if passed else "too few to judge by"
    return Check("enough_rows", "integrity", passed, rows, rules.min_rows, reason)


def _calibrated(evidence: Mapping[str, Any], rules: ServeRules) -> Check:
    error, noise = _get(evidence, "calibration", "ece"), _get(evidence, "calibration", "noise")
    limit = rules.max_ece + noise
    passed = error <= limit
    reason = (
        f"Calibration error {error:.4f} {_within(error, limit)} {limit:.4f} ({rules.max_ece:g} and "
        f"{noise:.4f} that chance explains at {_get(evidence, 'rows')} rows, in {_bins(evidence)}): "
        f"{'no more than chance may show' if passed else 'its probabilities cannot be believed'}"
    )
    return Check("calibrated", "quality", passed, error, limit, reason)


def _bins(evidence: Mapping[str, Any]) -> str:
    return _plural(int(_get(evidence, "calibration", "bins")), "bin")


def _skilled(evidence: Mapping[str, Any], rules: ServeRules) -> Check:
    skill, baseline = _get(evidence, "skill"), _get(evidence, "baseline")
    p, gain = skill["p_value"], skill["difference"]
    if p is None:
        reason = f"Too few rows to test the log-loss against {baseline}"
        return Check("better_than_base_rate", "quality", False, None, rules.max_skill_p, reason)
    better = gain > 0 and p <= rules.max_skill_p
    loss, coin = _get(evidence, "models", _get(evidence, "primary"))["log_loss"], _even_odds(evidence)
    passed = better and loss < coin
    reason = (
        f"Log-loss {abs(gain):.5f} {'lower' if gain > 0 else 'higher'} than {baseline}, one-sided p {p:.2g} "
        f"{_within(p, rules.max_skill_p)} {rules.max_skill_p:g}: "
        f"{'the features add to the base rate' if better else 'the features add nothing to the base rate'}"
    )
    if loss >= coin:
        reason += f"; and {loss:.5f} >= {coin:.5f} of even odds: who says nothing loses no more"
    return Check("better_than_base_rate", "quality", passed, p, rules.max_skill_p, reason)


def _even_odds(evidence: Mapping[str, Any]) -> float:
    """Log-loss of giving every class the same probability."""
    return log(len(_get(evidence, "classes")))


def _enough_trades(evidence: Mapping[str, Any], rules: TradeRules) -> Check:
    trades = int(_get(evidence, "backtest", "trades"))
    passed = trades >= rules.min_trades
    reason = f"{_plural(trades, 'trade')} {_reaches(trades, rules.min_trades)} {rules.min_trades}"
    reason += ": enough to judge" if passed else ": too few to judge"
    return Check("enough_trades", "trade", passed, trades, rules.min_trades, reason)


def _beats_benchmark(evidence: Mapping[str, Any]) -> Check:
    rule, value, bar = "beats_benchmark", *(_get(evidence, of, "sharpe") for of in ("backtest", "benchmark"))
    if value is None or bar is None:
        reason = "Sharpe after costs undefined: there is nothing to set against buy and hold"
        return Check(rule, "trade", False, value, bar, reason)
    passed = value > bar
    reason = f"Sharpe after costs {value:.2f} {'>' if passed else '<='} {bar:.2f} of buy and hold"
    reason += f": {'it' if passed else 'holding the market'} pays better for its risk"
    return Check(rule, "trade", passed, value, bar, reason)


def _drawdown(evidence: Mapping[str, Any], rules: TradeRules) -> Check:
    depth, limit = abs(float(_get(evidence, "backtest", "max_drawdown"))), rules.max_drawdown
    reason = f"Largest drawdown {depth:.1%} {_within(depth, limit)} {limit:.1%}"
    reason += f": {'no more' if depth <= limit else 'more'} was lost on the way than the rule allows"
    return Check("drawdown", "trade", depth <= limit, depth, limit, reason)


def _no_leak(evidence: Mapping[str, Any]) -> Check:
    findings = _get(evidence, "leaks")
    if not findings:
        reason = "No leak check was run: run the evaluate stage with them"
        return Check("no_leak", "quality", False, None, 0, reason)
    found = [finding for finding in findings if not finding["passed"]]
    named = "; ".join(f"{finding['check']}: {finding['detail']}" for finding in found)
    reason = f"{_plural(len(found), 'leak check')} of {len(findings)} failed > 0: {named}"
    if not found:
        reason = (
            f"{_plural(len(findings), 'leak check')} run, 0 failed: no information of the future was found"
        )
    return Check("no_leak", "quality", not found, len(found), 0, reason)


def _credible(evidence: Mapping[str, Any], rules: TradeRules) -> list[Check]:
    """Results too good to be true, of any model, and the feature that alone would make one."""
    shares = [of["share"] for of in _get(evidence, "classes")]
    hits = min(1.0, rules.max_hit_rate + max(shares) - 1 / len(shares))
    models, backtests = _get(evidence, "models"), _get(evidence, "backtests")
    checks = [
        _believable(evidence, "credible_sharpe", "Sharpe", "sharpe", backtests, rules.max_sharpe),
        _believable(evidence, "credible_hit_rate", "Hit rate", "hit_rate", models, hits),
        _believable(evidence, "credible_auc", "AUC", "auc", models, rules.max_auc),
    ]
    return [*checks, _not_one_feature(evidence, rules, any(not check.passed for check in checks))]


def _believable(
    evidence: Mapping[str, Any],
    rule: str,
    what: str,
    key: str,
    records: Mapping[str, Mapping[str, Any]],
    limit: float,
) -> Check:
    known = {name: record[key] for name, record in records.items() if record[key] is not None}
    name = max(known, key=lambda each: known[each], default=_get(evidence, "primary"))
    value = known.get(name, 0.0)
    passed = value <= limit
    reason = f"{what} of {name} {value:.3f} {_within(value, limit)} {limit:.3f}"
    reason += ": " + ("believable" if passed else "too good to be true; look for a leak before anything else")
    return Check(rule, "quality", passed, value, limit, reason)


def _not_one_feature(evidence: Mapping[str, Any], rules: TradeRules, too_good: bool) -> Check:
    """One feature may carry a modest model; one that carries a result too good to be true is the leak."""
    rule, limit, found = "credible_feature", rules.max_feature_share, _get(evidence, "importance")
    if found is None or found["leader"] is None:
        reason = "No feature's importance is known, " + (
            "so which of them makes the result too good to be true is not either"
            if too_good
            else "and no result is too good to be true"
        )
        return Check(rule, "quality", not too_good, None, limit, reason)
    share, passed = found["share"], not too_good or found["share"] <= limit
    reason = f"{found['leader']} carries {share:.0%} {_within(share, limit)} {limit:.0%} of the importance"
    if not passed:
        reason += f" of a result too good to be true: look at {found['leader']} first, and when it is known"
    else:
        reason += ": one of several" if share <= limit else ", and no result is too good to be true"
    return Check(rule, "quality", passed, share, limit, reason)


def _get(evidence: Mapping[str, Any], *keys: str) -> Any:
    found: Any = evidence
    for depth, key in enumerate(keys, 1):
        if key not in found:
            raise DataError(f"the evidence lacks {'.'.join(keys[:depth])}: run the evaluate stage again")
        found = found[key]
    return found


def _reaches(value: float, floor: float) -> str:
    return ">=" if value >= floor else "<"


def _within(value: float, limit: float) -> str:
    return "<=" if value <= limit else ">"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""What the gates judge: the out-of-sample record of every model on the same rows, as one JSON document.

The evidence dict (all numbers finite, or None where a figure is undefined; `reason` says why in words):

    schema        2
    primary       name of the model that would serve, "ensemble"
    baseline      name of the model it must beat: the base rate, recalibrated as the primary is, or
                  tracking the rate of "up" would pass for skill
    base_models   names whose ONNX parity the gate demands, sorted
    classes       [{name, share}] of the rows, in the order of the class numbers
    horizon       bars that one label spans (statistics correct for the overlap)
    rows          rows that every model predicts validly; all metrics below are on exactly these
    positives     share of the last class among them
    invalid       {model: predictions that are not finite, lie outside [0, 1] or do not add to 1}
    folds         number of test blocks among the rows
    models        {model: {n, log_loss, brier, auc, ece, hit_rate, log_loss_by_fold: [folds]}}; of more than
                  two classes `auc` and `ece` are those of the last against the rest
    calibration   {ece, noise, bins}: of the primary, in few enough bins for BIN_ROWS independent rows each;
                  noise = what chance stays below (95 %); of more than two classes that of the worst one
    skill         {difference, statistic, p_value, n}: log-loss baseline − primary; Diebold-Mariano with the
                  Harvey-Leybourne-Newbold correction, one-sided p that the primary is no better
    backtest      summary of the primary after costs, see BACKTEST_KEYS
    benchmark     summary of buy and hold on the same bars, same keys
    backtests     {model: summary} of every candidate, the primary included
    trials        [{name, sharpe}]: per-period Sharpe after costs of EVERY candidate tried
    track_record  {psr, rows, needed, reason}: of the primary; probability that its true Sharpe is above 0,
                  returns there, and returns needed for that probability to reach 95 % (MinTRL)
    importance    {of, features: [{feature, permutation, permutation_std, shap}], leader, share}: by how much
                  the log-loss out of sample rises when the feature is permuted, and its mean |SHAP value| in
                  log-odds; of the primary, or the mean over the families when it was not measured; the TOP
                  features, and the first of them with its share of all that is positive. None if not measured
    paths         {family: {paths, losing, sharpe, log_loss}}, see `evaluation.paths`; None without them
    leaks         [{check, passed, detail}]: what the leak checks found; None when none was run

and, from the accounts bar by bar, each None without them:

    overfitting   {pbo, noise, candidates, blocks, splits, reason}: probability of backtest overfitting over
                  the candidates; `noise` is its standard deviation when no candidate has skill, which is why
                  no rule judges it alone
    spa           {block, replications, primary, best, superior, candidates, reason}: Hansen's test that the
                  primary, or none of all candidates, earns more than buy and hold, {lower, consistent, upper}
                  p-values each, and the candidates that StepM finds better at 5 %
    intervals     {level, replications, block, block_rows, figures: {figure: {estimate, low, high}}, reason}:
                  stationary bootstrap of the primary; figures sharpe, benchmark_sharpe and sharpe_excess
                  (annualised), max_drawdown, log_loss_gain (against the baseline), hit_rate
    regimes       {kinds: {kind: [{label, rows, log_loss_gain, hit_rate, bars, sharpe}]}, warnings: [words]}
"""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation import classification, paths
from evaluation.accounts import RESAMPLING, Accounts, Resampling, Skill
from evaluation.comparison import better
from evaluation.overfitting import min_trl, psr

if TYPE_CHECKING:
    import pandas as pd

Vector = npt.NDArray[np.float64]
Evidence = dict[str, Any]
Summary = Mapping[str, float]

# a backtest summary must hold these; `evaluation.performance.summary` plus the number of trades does
BACKTEST_KEYS = ("n", "sharpe", "sharpe_per_period", "skew", "kurtosis", "max_drawdown", "trades")
# name of the model that would serve, in tables of many
PRIMARY = "ensemble"
BINS = 10
# features listed by importance
TOP = 25
# independent rows in each bin that calibration is judged in: with fewer, chance hides any error
BIN_ROWS = 200


def assemble(
    y: npt.ArrayLike,
    probabilities: Mapping[str, npt.ArrayLike],
    fold_ids: npt.ArrayLike,
    *,
    backtests: Mapping[str, Summary],
    benchmark: Summary,
    horizon: int,
    primary: str = PRIMARY,
    baseline: str = "base_rate",
    base_models: Sequence[str] | None = None,
    classes: Sequence[str] = ("down", "up"),
    accounts: Accounts | None = None,
    importance: "pd.DataFrame | None" = None,
    path_scores: "pd.DataFrame | None" = None,
    leaks: Sequence[Mapping[str, Any]] | None = None,
    resampling: Resampling = RESAMPLING,
) -> Evidence:
    """The evidence dict described above.

    y: [n] class numbers in time order. probabilities: {model: [n] or [n, K]} out-of-sample P(up), or of every
    class, on the SAME rows, each made by a model that had not seen the row. fold_ids: [n] test block of each
    row. classes: the K names.
    backtests: {model: summary} per candidate, the primary among them; benchmark: of buy and hold.
    base_models: those exported beside the primary; by default all but primary and baseline.
    importance: columns feature, family, permutation, permutation_std, shap, measured on out-of-sample rows.
    path_scores: as `paths.distribution` takes them. leaks: findings {check, passed, detail}.

    Rows that any model predicts invalidly are left out of the metrics and counted under `invalid`.
    Raises DataError for unequal lengths, missing models or summaries, or when no row is valid.
    """
    y, folds = np.asarray(y, dtype=np.float64), np.asarray(fold_ids)
    table = {name: np.asarray(p, dtype=np.float64) for name, p in probabilities.items()}
    _check(y, folds, table, backtests, benchmark, (primary, baseline))
    valid = {name: classification.valid(p) for name, p in table.items()}
    rows = np.logical_and.reduce(list(valid.values()))
    if not rows.any():
        raise DataError(f"none of {len(y)} rows is predicted validly by all of {sorted(table)}")
    y, folds = y[rows], folds[rows]
    table = {name: p[rows] for name, p in table.items()}
    others = sorted(set(table) - {primary, baseline})
    shares = _shares(y, table[primary], classes)
    gain = classification.losses(y, table[baseline]) - classification.losses(y, table[primary])
    evidence = {
        "schema": 2,
        "primary": primary,
        "baseline": baseline,
        "base_models": others if base_models is None else sorted(base_models),
        "classes": [{"name": name, "share": share} for name, share in zip(classes, shares, strict=True)],
        "horizon": horizon,
        "rows": len(y),
        "positives": shares[-1],
        "invalid": {name: int((~ok).sum()) for name, ok in valid.items()},
        "folds": len(np.unique(folds)),
        "models": {name: _metrics(y, p, folds) for name, p in table.items()},
        "calibration": _calibration(y, table[primary], horizon),
        "skill": _skill(gain, horizon),
        "backtest": dict(backtests[primary]),
        "benchmark": dict(benchmark),
        "backtests": {name: dict(figures) for name, figures in backtests.items()},
        "trials": _trials(backtests),
        "track_record": _track_record(backtests[primary]),
        "importance": None if importance is None else _importance(importance, primary),
        "paths": None if path_scores is None else paths.distribution(path_scores),
        "leaks": None if leaks is None else [dict(finding) for finding in leaks],
        "overfitting": None,
        "spa": None,
        "intervals": None,
        "regimes": None,
    }
    if accounts is not None:
        hits = classification.hits(y, table[primary])
        evidence |= accounts.sections(Skill(gain, hits, rows, horizon), primary, resampling)
    return _plain(evidence)  # type: ignore[no-any-return]


def _metrics(y: Vector, p: Vector, folds: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        "n": len(y),
        "log_loss": classification.log_loss(y, p),
        "brier": classification.brier(y, p),
        "auc": classification.auc(y, p),
        "ece": classification.ece(y, p, bins=BINS),
        "hit_rate": classification.hit_rate(y, p),
        "log_loss_by_fold": [
            classification.log_loss(y[folds == fold], p[folds == fold]) for fold in np.unique(folds)
        ],
    }


def _calibration(y: Vector, p: Vector, horizon: int) -> dict[str, float]:
    """Of the class whose error exceeds what chance explains the most; of two classes both are the same."""
    bins = min(BINS, max(1, len(y) // (BIN_ROWS * horizon)))
    classes = range(p.shape[1]) if p.ndim == 2 and p.shape[1] > 2 else [1]
    # the worst of several is beyond the limit of one more often than once in twenty
    z = NormalDist().inv_cdf(1 - 0.05 / len(classes))
    judged = []
    for number in classes:
        own = p if p.ndim == 1 else p[:, number]
        error = classification.ece((y == number).astype(np.float64), own, bins=bins)
        noise = classification.ece_noise(own, bins=bins, overlap=horizon, z=z)
        judged.append({"ece": error, "noise": noise, "bins": bins})
    return max(judged, key=lambda one: one["ece"] - one["noise"])


def _shares(y: Vector, p: Vector, classes: Sequence[str]) -> list[float]:
    if len(classes) != (2 if p.ndim == 1 else p.shape[1]):
        raise DataError(
            f"probabilities of shape {p.shape} for classes {', '.join(classes)}: need one column per class"
        )
    return [float((y == number).mean()) for number in range(len(classes))]


def _skill(gain: Vector, horizon: int) -> dict[str, float | None]:
    if len(gain) <= max(horizon, 2):
        return {"difference": float(gain.mean()), "statistic": None, "p_value": None, "n": len(gain)}
    test = better(gain, np.zeros_like(gain), horizon=horizon)
    return {
        "difference": test.difference,
        "statistic": test.hln,
        "p_value": test.p_second_better,
        "n": test.n,
    }


def _trials(backtests: Mapping[str, Summary]) -> list[dict[str, Any]]:
    """A candidate that never traded has no Sharpe; it was tried all the same, and earned 0."""
    tried = {name: figures["sharpe_per_period"] for name, figures in backtests.items()}
    return [
        {"name": name, "sharpe": value if value is not None and isfinite(value) else 0.0}
        for name, value in tried.items()
    ]


def _track_record(figures: Summary) -> dict[str, Any]:
    sharpe, n = figures["sharpe_per_period"], int(figures["n"])
    found: dict[str, Any] = {"psr": None, "rows": n, "needed": None, "reason": None}
    if sharpe is None or not isfinite(sharpe):
        return found | {"reason": "the account never moved"}
    skew, kurtosis = figures["skew"], figures["kurtosis"]
    found["psr"] = psr(sharpe, n, skew, kurtosis)
    if sharpe <= 0:
        return found | {"reason": f"a Sharpe ratio of {sharpe:.4f} per bar is not above 0, however long"}
    return found | {"needed": ceil(min_trl(sharpe, skew=skew, kurtosis=kurtosis))}


def _importance(table: "pd.DataFrame", primary: str) -> dict[str, Any]:
    families = set(table["family"])
    chosen = table[table["family"] == primary] if primary in families else table
    of = chosen.groupby("feature", sort=True)
    mean = of[["permutation", "shap"]].mean()
    # of a mean over families, whose permutations are drawn one by one
    mean["permutation_std"] = of["permutation_std"].agg(lambda std: sqrt((std**2).sum()) / len(std))
    ranked = mean.sort_values("permutation", ascending=False, kind="stable").reset_index()
    total = float(ranked["permutation"].clip(lower=0).sum())
    first = float(ranked["permutation"].max()) if len(ranked) else 0.0
    return {
        "of": primary if primary in families else f"mean of {', '.join(sorted(families))}",
        "features": ranked[["feature", "permutation", "permutation_std", "shap"]]
        .head(TOP)
        .to_dict("records"),
        "leader": ranked["feature"].iloc[0] if first > 0 else None,
        "share": first / total if first > 0 else None,
    }


def _plain(value: Any) -> Any:
    """Only what JSON holds: numpy scalars become Python's, NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value


def _check(
    y: Vector,
    folds: npt.NDArray[Any],
    table: Mapping[str, Vector],
    backtests: Mapping[str, Summary],
    benchmark: Summary,
    needed: tuple[str, str],
) -> None:
    lengths = {"y": len(y), "fold_ids": len(folds)} | {name: len(p) for name, p in table.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"lengths differ: {lengths}; cut every model to the common rows")
    missing = [name for name in needed if name not in table]
    if missing or needed[0] not in backtests:
        raise DataError(
            f"probabilities of {sorted(table)} and backtests of {sorted(backtests)}: "
            f"needs probabilities of {needed[0]!r} and {needed[1]!r}, and a backtest of {needed[0]!r}"
        )
    for name, figures in {**backtests, "benchmark": benchmark}.items():
        lacking = [key for key in BACKTEST_KEYS if key not in figures]
        if lacking:
            raise DataError(f"backtest summary of {name} lacks {', '.join(lacking)}")

"""What the gates judge: the out-of-sample record of every model on the same rows, as one JSON document.

The evidence dict (all numbers finite, or None where a figure is undefined):

    schema        1
    primary       name of the model that would serve, "ensemble"
    baseline      name of the model it must beat: the base rate, recalibrated as the primary is, or
                  tracking the rate of "up" would pass for skill
    base_models   names whose ONNX parity the gate demands, sorted
    horizon       bars that one label spans (statistics correct for the overlap)
    rows          rows that every model predicts validly; all metrics below are on exactly these
    positives     share of "up" among them
    invalid       {model: predictions that are not finite or lie outside [0, 1]}
    folds         number of test blocks among the rows
    models        {model: {n, log_loss, brier, auc, ece, hit_rate, log_loss_by_fold: [folds]}}
    calibration   {ece, noise, bins}: of the primary, in few enough bins for BIN_ROWS independent rows each;
                  noise = what chance stays below (95 %)
    skill         {difference, statistic, p_value, n}: log-loss baseline − primary; Diebold-Mariano with the
                  Harvey-Leybourne-Newbold correction, one-sided p that the primary is no better
    backtest      summary of the primary after costs, see BACKTEST_KEYS
    benchmark     summary of buy and hold on the same bars, same keys
    backtests     {model: summary} of every candidate, the primary included
    trials        [{name, sharpe}]: per-period Sharpe after costs of EVERY candidate tried
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation import classification
from evaluation.comparison import better

Vector = npt.NDArray[np.float64]
Evidence = dict[str, Any]
Summary = Mapping[str, float]

# a backtest summary must hold these; `evaluation.performance.summary` plus the number of trades does
BACKTEST_KEYS = ("n", "sharpe", "sharpe_per_period", "skew", "kurtosis", "max_drawdown", "trades")
BINS = 10
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
    primary: str = "ensemble",
    baseline: str = "base_rate",
    base_models: Sequence[str] | None = None,
    extra_trials: Mapping[str, float] | None = None,
) -> Evidence:
    """The evidence dict described above.

    y: [n] outcomes 0 or 1 in time order. probabilities: {model: [n]} out-of-sample P(up) on the SAME rows,
    each made by a model that had not seen the row. fold_ids: [n] test block of each row.
    backtests: {model: summary} per candidate, the primary among them; benchmark: of buy and hold.
    base_models: those exported beside the primary; by default all but primary and baseline.
    extra_trials: {name: per-period Sharpe} of candidates without a backtest here, such as tuning trials.

    Rows that any model predicts invalidly are left out of the metrics and counted under `invalid`.
    Raises DataError for unequal lengths, missing models or summaries, or when no row is valid.
    """
    y, folds = np.asarray(y, dtype=np.float64), np.asarray(fold_ids)
    table = {name: np.asarray(p, dtype=np.float64) for name, p in probabilities.items()}
    _check(y, folds, table, backtests, benchmark, (primary, baseline))
    valid = {name: np.isfinite(p) & (p >= 0) & (p <= 1) for name, p in table.items()}
    rows = np.logical_and.reduce(list(valid.values()))
    if not rows.any():
        raise DataError(f"none of {len(y)} rows is predicted validly by all of {sorted(table)}")
    y, folds = y[rows], folds[rows]
    table = {name: p[rows] for name, p in table.items()}
    others = sorted(set(table) - {primary, baseline})
    evidence = {
        "schema": 1,
        "primary": primary,
        "baseline": baseline,
        "base_models": others if base_models is None else sorted(base_models),
        "horizon": horizon,
        "rows": len(y),
        "positives": float(y.mean()),
        "invalid": {name: int((~ok).sum()) for name, ok in valid.items()},
        "folds": len(np.unique(folds)),
        "models": {name: _metrics(y, p, folds) for name, p in table.items()},
        "calibration": _calibration(y, table[primary], horizon),
        "skill": _skill(y, table[baseline], table[primary], horizon),
        "backtest": dict(backtests[primary]),
        "benchmark": dict(benchmark),
        "backtests": {name: dict(figures) for name, figures in backtests.items()},
        "trials": _trials(backtests, extra_trials or {}),
    }
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
    bins = min(BINS, max(1, len(y) // (BIN_ROWS * horizon)))
    return {
        "ece": classification.ece(y, p, bins=bins),
        "noise": classification.ece_noise(p, bins=bins, overlap=horizon),
        "bins": bins,
    }


def _skill(y: Vector, baseline: Vector, primary: Vector, horizon: int) -> dict[str, float | None]:
    first, second = classification.losses(y, baseline), classification.losses(y, primary)
    if len(y) <= max(horizon, 2):
        return {"difference": float((first - second).mean()), "statistic": None, "p_value": None, "n": len(y)}
    test = better(first, second, horizon=horizon)
    return {
        "difference": test.difference,
        "statistic": test.hln,
        "p_value": test.p_second_better,
        "n": test.n,
    }


def _trials(backtests: Mapping[str, Summary], extra: Mapping[str, float]) -> list[dict[str, Any]]:
    """A candidate that never traded has no Sharpe; it was tried all the same, and earned 0."""
    tried = {name: figures["sharpe_per_period"] for name, figures in backtests.items()} | dict(extra)
    return [
        {"name": name, "sharpe": value if value is not None and isfinite(value) else 0.0}
        for name, value in tried.items()
    ]


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

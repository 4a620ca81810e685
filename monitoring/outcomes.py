"""Live performance against what the model itself promised, once the horizon of each prediction has passed.

A calibrated model states its own expected hit rate and log-loss. Ratios ("15 % worse over 30 trades") fire by
chance on every fifth check; here each comparison is a test, and both are corrected together.

An outcome is 1 or 0, or 0.5 where it went neither way and the probability p counts such outcomes half, as
P(up) + P(flat) / 2 does. Its mean is then still p, so what was promised and what came are comparable; its
variance, p(1 - p) - P(flat) / 4, is below that of a 0 or 1, so the tests err on the side of the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DataError
from monitoring.thresholds import Array, benjamini_hochberg

if TYPE_CHECKING:
    import pandas as pd

_EDGE = 1e-6


@dataclass(frozen=True)
class PerformanceRules:
    """level: false discovery rate over the two tests; min_rows: independent outcomes before any claim."""

    level: float = 0.05
    min_rows: int = 30


@dataclass(frozen=True)
class PerformanceVerdict:
    """Realised against expected performance over `rows` outcomes whose label spans do not overlap.

    degradation = relative rise of the log-loss over the expected one, 0 unless `degraded`; p-values are
    one-sided (worse than promised). `signals` feed the severity.
    """

    rows: int
    joined: int
    hit_rate: float
    expected_hit_rate: float
    hit_p_value: float
    log_loss: float
    expected_log_loss: float
    log_loss_p_value: float
    degraded: bool
    degradation: float
    concept_drift_at: tuple[str, ...]
    signals: tuple[str, ...]
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def join(predictions: pd.DataFrame, labels: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
    """Predictions whose label span ended at or before `until`, with their outcome; index bar time, UTC.

    predictions need `probability`; labels (of `models.labels`, handed in by the caller) `label`, the outcome
    0, 0.5 or 1, and `t1`, the UTC time at which it is known. Returns probability, label, t1, ascending.
    """
    for name, frame, needed in (
        ("predictions", predictions, {"probability"}),
        ("labels", labels, {"label", "t1"}),
    ):
        if absent := needed - set(frame.columns):
            raise DataError(f"{name} lack {sorted(absent)}: found {sorted(map(str, frame.columns))}")
    both = predictions[["probability"]].join(labels[["label", "t1"]], how="inner").sort_index()
    return both[(both["t1"] <= until) & both["label"].notna()]


def apart(joined: pd.DataFrame) -> pd.DataFrame:
    """The rows that start at or after the t1 of the row kept before: their outcomes share no bar."""
    ends = joined["t1"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    starts = joined.index.tz_convert("UTC").tz_localize(None).to_numpy()
    kept: list[int] = []
    for row in range(len(joined)):
        if not kept or starts[row] >= ends[kept[-1]]:
            kept.append(row)
    return joined.iloc[kept]


def hit_test(probability: Array, label: Array) -> float:
    """P(as few hits or fewer) when outcome i is up with probability p_i: exact, Poisson-binomial.

    Both [n], independent rows. A hit is p ≥ .5 with label 1 or p < .5 with label 0, half a hit a label of .5;
    its expected chance is max(p, 1 − p).
    """
    mass = np.ones(1)
    for chance in np.maximum(probability, 1 - probability):
        mass = np.convolve(mass, [1 - chance, chance])
    return float(min(1.0, mass[: int(_hits(probability, label).sum()) + 1].sum()))


def log_loss_test(probability: Array, label: Array) -> float:
    """One-sided p-value that the log-loss exceeds what calibrated probabilities imply.

    Row i contributes (y_i − p_i)·(−logit p_i) of mean 0 and variance p(1 − p)·logit²p, as in Spiegelhalter's
    test for the Brier score (1986); normal approximation, both [n], independent rows. p = .5 throughout → 1.
    """
    from scipy.stats import norm

    p = np.clip(probability, _EDGE, 1 - _EDGE)
    logit = np.log(p / (1 - p))
    deviation = float(np.sqrt(np.sum(p * (1 - p) * logit**2)))
    if deviation == 0:
        return 1.0
    return float(norm.sf(float(np.sum(-(label - p) * logit)) / deviation))


def _hits(probability: Array, label: Array) -> Array:
    return np.where(probability >= 0.5, label, 1.0 - label)


def _entropy(probability: Array, weight_up: Array) -> float:
    p = np.clip(probability, _EDGE, 1 - _EDGE)
    return float(-np.mean(weight_up * np.log(p) + (1 - weight_up) * np.log1p(-p)))


def misses_drift(misses: Iterable[float], confidence: float = 0.001) -> list[int]:
    """Rows at which the rate of `misses`, each in [0, 1], rose: HDDM-A (river). Frías-Blanco et al. 2015."""
    from river.drift import binary

    create: Any = binary.HDDMA
    detector, found = create(drift_confidence=confidence), []
    for row, miss in enumerate(misses):
        detector.update(float(miss))
        if detector.drift_detected:
            found.append(row)
    return found


def values_drift(values: Iterable[float], delta: float = 0.002) -> list[int]:
    """Rows at which the mean of `values` rose, by ADWIN (river); falls are good news and left out.

    Bifet & Gavaldà 2007.
    """
    from river import drift

    create: Any = drift.ADWIN
    detector, found, before = create(delta=delta), [], 0.0
    for row, value in enumerate(values):
        detector.update(float(value))
        if detector.drift_detected and detector.estimation > before:
            found.append(row)
        before = detector.estimation
    return found


def performance(joined: pd.DataFrame, rules: PerformanceRules | None = None) -> PerformanceVerdict:
    """Test live outcomes (of `join`) against the model's own promise and watch them for a change.

    Overlapping label spans are thinned first (`apart`). Under `min_rows` independent outcomes nothing is
    claimed. DataError for no outcome at all or a probability outside [0, 1].
    """
    rules = rules or PerformanceRules()
    if joined.empty:
        raise DataError("no prediction has reached its horizon yet: wait for more bars")
    rows = apart(joined)
    p, y = rows["probability"].to_numpy(np.float64), rows["label"].to_numpy(np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("a logged probability is not in [0, 1]: the prediction log is damaged")
    enough = len(rows) >= rules.min_rows
    tests = (hit_test(p, y), log_loss_test(p, y))
    degraded = enough and bool(benjamini_hochberg(tests, rules.level).any())
    changes = _changes(p, y) if enough else []
    loss, expected = _entropy(p, y), _entropy(p, p)
    return PerformanceVerdict(
        rows=len(rows),
        joined=len(joined),
        hit_rate=float(_hits(p, y).mean()),
        expected_hit_rate=float(np.maximum(p, 1 - p).mean()),
        hit_p_value=tests[0],
        log_loss=loss,
        expected_log_loss=expected,
        log_loss_p_value=tests[1],
        degraded=degraded,
        degradation=max(0.0, loss / expected - 1) if degraded and expected > 0 else 0.0,
        concept_drift_at=tuple(rows.index[i].isoformat() for i in changes),
        signals=(*(["performance"] if degraded else []), *(["concept"] if changes else [])),
        reasons=_reasons(len(rows), rules, tests, degraded, len(changes)),
    )


def _changes(probability: Array, label: Array) -> list[int]:
    p = np.clip(probability, _EDGE, 1 - _EDGE)
    surprise = np.clip(-(label - p) * np.log(p / (1 - p)), -1.0, 1.0)
    return sorted({*misses_drift(1.0 - _hits(probability, label)), *values_drift(surprise)})


def _reasons(
    rows: int, rules: PerformanceRules, tests: tuple[float, float], degraded: bool, changes: int
) -> tuple[str, ...]:
    if rows < rules.min_rows:
        return (f"{rows} independent outcomes, {rules.min_rows} are needed before performance is judged",)
    verb = "worse than promised" if degraded else "as promised"
    first = f"{rows} outcomes {verb}: hit rate p = {tests[0]:.3f}, log-loss p = {tests[1]:.3f}"
    return (first, *([f"concept drift detected {changes} times"] if changes else []))

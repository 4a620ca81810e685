"""The drift verdict: plain numpy, the same numbers as the Evidently report, cheap enough to run anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DataError
from monitoring.decision import ACTIONS, Observation, Severity, observation, severity
from monitoring.thresholds import METHOD, Array, BlockNull, block_null, wasserstein

if TYPE_CHECKING:
    import pandas as pd

    from monitoring.outcomes import PerformanceVerdict

COMFORTABLE_ROWS = 1000


@dataclass(frozen=True)
class DriftRules:
    """How a window is compared with the training reference.

    window_rows: the last bars that are judged; reference_rows: the last reference rows they are judged
    against (a long reference holds older crashes and then calls a new one normal); quantile: of the block
    distances, the threshold of a column, and of the blocks' shares of such columns, what is usual;
    share_limit: least share of drifted columns that counts; min_rows: fewer bars are not judged;
    prediction_margin: the prediction's threshold, in largest block distances.

    The defaults were chosen on the S&P 500 of 1999–2018, the series they are reported for.
    """

    window_rows: int = 250
    reference_rows: int = 1000
    quantile: float = 0.95
    share_limit: float = 0.4
    min_rows: int = 60
    prediction_margin: float = 1.25


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance from the reference, in the reference's standard deviations."""

    name: str
    distance: float
    threshold: float
    drifted: bool


@dataclass(frozen=True)
class DriftVerdict:
    """What was compared, what was found and what follows; times ISO 8601 UTC.

    share_limit is the smallest share that counts as drift: over `rules.share_limit` and over
    `null_share`, the share that few blocks of the reference (`rules.quantile`) show against the rest.
    degradation = 1 − 1/m, m the median of distance / threshold over the drifted columns; 0 without drift.
    """

    subject: str
    version: str
    window_start: str
    window_end: str
    rows: int
    reference_start: str
    reference_end: str
    reference_rows: int
    method: str
    columns: tuple[ColumnDrift, ...]
    missing: tuple[str, ...]
    share: float
    share_limit: float
    null_share: float
    drifted: bool
    degradation: float
    prediction: ColumnDrift | None
    signals: tuple[str, ...]
    severity: Severity
    action: str
    reasons: tuple[str, ...]
    remark: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, severity by name."""
        return {**asdict(self), "severity": self.severity.name}

    def with_performance(self, live: PerformanceVerdict) -> DriftVerdict:
        """This verdict with live performance beside the features: its signals, severity and reasons."""
        signals = tuple(dict.fromkeys((*self.signals, *live.signals)))
        level = severity(len(signals), max(self.degradation, live.degradation))
        reasons = (*self.reasons, *live.reasons)
        return replace(self, signals=signals, severity=level, action=ACTIONS[level], reasons=reasons)

    def observation(self, extra: Sequence[str] = (), degradation: float = 0.0) -> Observation:
        """For the decision; `extra` signals and `degradation` of live performance raise the severity."""
        signals = tuple(dict.fromkeys((*self.signals, *extra)))
        level = severity(len(signals), max(self.degradation, degradation))
        return observation(
            level,
            subject=self.subject,
            version=self.version,
            start=self.window_start,
            end=self.window_end,
            signals=signals,
        )


@dataclass(frozen=True)
class Comparison:
    """The two samples that are compared, after the rules have cut them, and the columns that can be."""

    current: pd.DataFrame
    reference: pd.DataFrame
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    prediction: str | None
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> list[str]:
        """Feature columns, then the prediction if the reference has one."""
        return [*self.columns, *([self.prediction] if self.prediction else [])]


def compare(
    current: pd.DataFrame,
    reference: pd.DataFrame,
    columns: Sequence[str],
    prediction: str | None,
    rules: DriftRules,
) -> Comparison:
    """Cut both samples to `rules` and sort out columns; both indexed by bar time UTC, ascending.

    The window is at most half as long as the reference, whose own blocks it is compared with. A feature that
    is not finite in half of the window is `missing`: it is a signal of its own and
    does not enter the distances. DataError for an absent column, too few rows or an unordered index.
    """
    columns = list(columns)
    for name, frame in (("current", current), ("reference", reference)):
        _check(name, frame, columns, rules)
    reference = reference.tail(rules.reference_rows)
    asked = min(rules.window_rows, len(current))
    current = current.tail(_window_rows(asked, len(reference), rules))
    filled = np.isfinite(current[columns].to_numpy(np.float64)).mean(axis=0)
    known = np.isfinite(reference[columns].to_numpy(np.float64)).mean(axis=0)
    usable = tuple(c for c, f, k in zip(columns, filled, known, strict=True) if f >= 0.5 and k >= 0.5)
    missing = tuple(c for c, f, k in zip(columns, filled, known, strict=True) if f < 0.5 <= k)
    if not usable:
        raise DataError("no feature is finite in half of the window: the log holds no usable feature values")
    has_prediction = prediction in current.columns and prediction in reference.columns
    notes = _notes(asked, current, reference)
    return Comparison(current, reference, usable, missing, prediction if has_prediction else None, notes)


def _window_rows(asked: int, reference_rows: int, rules: DriftRules) -> int:
    rows = min(asked, reference_rows // 2)
    if rows < rules.min_rows:
        raise DataError(
            f"the reference has {reference_rows} rows, at least {2 * rules.min_rows} (2 · drift.min_rows) "
            "are needed to learn what is normal for a window: keep a longer reference"
        )
    return rows


def _notes(asked: int, current: pd.DataFrame, reference: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    if len(current) < asked:
        notes.append(
            f"The window was cut from {asked} to {len(current)} bars: "
            f"half of the {len(reference)} reference rows."
        )
    if known := int((current.index <= reference.index[-1]).sum()):
        notes.append(f"{known} of the bars do not come after the reference: the model may know them.")
    return tuple(notes)


def _check(name: str, frame: pd.DataFrame, columns: list[str], rules: DriftRules) -> None:
    absent = [c for c in columns if c not in frame.columns]
    if absent:
        raise DataError(
            f"the {name} sample lacks {len(absent)} of {len(columns)} features ({', '.join(absent[:5])}): "
            "compare a log with the reference of the model that wrote it"
        )
    if len(frame) < rules.min_rows:
        raise DataError(
            f"the {name} sample has {len(frame)} rows, at least {rules.min_rows} are needed "
            "(drift.min_rows): log more bars or widen the window"
        )
    if getattr(frame.index, "tz", None) is None or not frame.index.is_monotonic_increasing:
        raise DataError(f"the {name} sample must be indexed by bar time in UTC, ascending")


def assess(
    current: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    columns: Sequence[str],
    prediction: str | None = "probability",
    subject: str = "",
    version: str = "",
    rules: DriftRules | None = None,
) -> DriftVerdict:
    """Judge the end of `current` against the end of `reference`, as long as `rules` say.

    Both indexed by bar time UTC with one float column per feature, and `prediction` where known. No
    Evidently: a tenth of a second for 60 columns. DataError as in `compare`.
    """
    rules = rules or DriftRules()
    return judge(compare(current, reference, columns, prediction, rules), subject, version, rules)


def judge(samples: Comparison, subject: str, version: str, rules: DriftRules) -> DriftVerdict:
    """The verdict on two samples that `compare` has prepared."""
    judged = samples.judged
    past, now = samples.reference[judged].to_numpy(np.float64), samples.current[judged].to_numpy(np.float64)
    null, distances = block_null(past, len(now)), wasserstein(now, past)
    width = len(samples.columns)
    features = BlockNull(null.length, null.distances[:, :width])
    thresholds = features.thresholds(rules.quantile)
    found = _columns(samples.columns, distances[:width], thresholds)
    null_share = features.usual_share(rules.quantile)
    limit = _share_limit(max(rules.share_limit, null_share), width)
    share = sum(c.drifted for c in found) / width
    prediction = _prediction(samples, distances, null, rules)
    degradation = _degradation(found) if share >= limit else 0.0
    signals = _signals(share >= limit, prediction, samples.missing)
    level = severity(len(signals), degradation)
    return DriftVerdict(
        subject=subject,
        version=version,
        window_start=samples.current.index[0].isoformat(),
        window_end=samples.current.index[-1].isoformat(),
        rows=len(now),
        reference_start=samples.reference.index[0].isoformat(),
        reference_end=samples.reference.index[-1].isoformat(),
        reference_rows=len(past),
        method=METHOD,
        columns=found,
        missing=samples.missing,
        share=share,
        share_limit=limit,
        null_share=null_share,
        drifted=share >= limit,
        degradation=degradation,
        prediction=prediction,
        signals=signals,
        severity=level,
        action=ACTIONS[level],
        reasons=_reasons(found, share, limit, null_share, degradation, prediction, samples.missing),
        remark=" ".join((_remark(len(now), len(past), len(null.distances)), *samples.notes)),
    )


def _columns(names: Sequence[str], distances: Array, thresholds: Array) -> tuple[ColumnDrift, ...]:
    return tuple(
        ColumnDrift(name, float(d), float(t), bool(d >= t))
        for name, d, t in zip(names, distances, thresholds, strict=True)
    )


def _share_limit(over: float, width: int) -> float:
    """Smallest share of `width` columns above `over`, so that "at least" is what both reports can say."""
    return min(1.0, (int(np.floor(over * width + 1e-9)) + 1) / width)


def _prediction(
    samples: Comparison, distances: Array, null: BlockNull, rules: DriftRules
) -> ColumnDrift | None:
    if samples.prediction is None:
        return None
    threshold = rules.prediction_margin * null.thresholds(1.0)[-1:]
    return _columns([samples.prediction], distances[-1:], threshold)[0]


def _degradation(columns: tuple[ColumnDrift, ...]) -> float:
    inverse = [c.threshold / c.distance for c in columns if c.drifted and c.distance > 0]
    return 1.0 - float(np.median(inverse)) if inverse else 0.0


def _signals(drifted: bool, prediction: ColumnDrift | None, missing: tuple[str, ...]) -> tuple[str, ...]:
    found = {
        "features": drifted,
        "prediction": prediction is not None and prediction.drifted,
        "missing": bool(missing),
    }
    return tuple(name for name, on in found.items() if on)


def _reasons(
    columns: tuple[ColumnDrift, ...],
    share: float,
    limit: float,
    null_share: float,
    degradation: float,
    prediction: ColumnDrift | None,
    missing: tuple[str, ...],
) -> tuple[str, ...]:
    verb = "that is drift" if share >= limit else "that is not drift"
    reasons = [
        f"{share:.0%} of {len(columns)} features are beyond their threshold; {verb}, the limit is {limit:.0%}"
        f" (few blocks of the reference itself show more than {null_share:.0%})"
    ]
    if share >= limit:
        worst = sorted(columns, key=lambda c: c.distance / max(c.threshold, 1e-12), reverse=True)[:3]
        named = ", ".join(f"{c.name} {c.distance:.2f} against {c.threshold:.2f}" for c in worst)
        reasons.append(f"furthest from the reference: {named} (standard deviations)")
    if degradation > 0:
        times = 1 / max(1 - degradation, 1e-9)
        reasons.append(f"the median drifted feature is {times:.1f} times its threshold away")
    if prediction is None:
        reasons.append("predictions were not compared: the reference or the log has none")
    else:
        side = "beyond" if prediction.drifted else "within"
        reasons.append(
            f"predictions moved by {prediction.distance:.2f} standard deviations, {side} the "
            f"{prediction.threshold:.2f} allowed"
        )
    if missing:
        reasons.append(f"{len(missing)} features are missing in half of the window: {', '.join(missing[:5])}")
    return tuple(reasons)


def _remark(rows: int, reference_rows: int, blocks: int) -> str:
    disjoint = reference_rows // rows
    remark = (
        f"Thresholds come from {blocks} overlapping blocks of {rows} bars ({disjoint} disjoint) "
        f"of {reference_rows} reference rows."
    )
    if rows < COMFORTABLE_ROWS:
        remark += (
            f" {rows} rows are fewer than {COMFORTABLE_ROWS}: small shifts cannot be told from chance, "
            "and fixed limits such as PSI .1 or .25 would not hold at this size."
        )
    return remark

"""The gate in front of everything: which bars may be believed, which go to quarantine, and why.

Three passes. The structure (columns, types, time zone) must hold or nothing can be said: DataError. Then each
row is judged; bad rows go to quarantine. Then the series that remains is looked at as a whole: gaps, strays,
stale stretches, jumps and its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from core.bars import COLUMNS
from core.calendar import Calendar, get_calendar
from core.errors import ConfigurationError, DataError, QuarantineExceeded
from core.timeframe import Timeframe
from data.measures import expected_bars, row_measures, series_measures
from data.reasons import explain
from data.rules import RULES, Limits, Severity

_NAMED = 10


@dataclass(frozen=True)
class RuleResult:
    """One rule's finding.

    `rows` counts the rows that break it (for `gaps` the bars missing, for `row_count` the bars short of the
    minimum); `stamps` names the first of them, ISO UTC.
    """

    id: str
    severity: Severity
    passed: bool
    rows: int
    detail: str
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityReport:
    """Outcome of `validate`.

    `clean` is canonical (`core.bars.check_bars`). `quarantine` has the input's columns plus `row` (from 1, in
    input order after repairs) and `reason`; its timestamp index may hold NaT and repeats. Every input row
    that repair did not drop is in exactly one of the two. `expectations` is Great Expectations' own result,
    strict JSON.
    """

    rules: list[RuleResult]
    clean: pd.DataFrame
    quarantine: pd.DataFrame
    timeframe: Timeframe
    calendar: str
    repaired: int = 0
    expectations: dict[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[RuleResult]:
        """Warning rules that did not pass."""
        return [rule for rule in self.rules if not rule.passed and rule.severity == "warning"]

    def metrics(self) -> dict[str, Any]:
        """The report as JSON values, equal for equal bars: no times of day, no identifiers."""
        index = self.clean.index
        return {
            "rows": len(self.clean) + len(self.quarantine),
            "clean": len(self.clean),
            "quarantined": len(self.quarantine),
            "repaired": self.repaired,
            "warnings": len(self.warnings),
            "first": _iso(index[0]) if len(index) else None,
            "last": _iso(index[-1]) if len(index) else None,
            "timeframe": str(self.timeframe),
            "calendar": self.calendar,
            "rules": {
                rule.id: {"passed": rule.passed, "rows": rule.rows, "severity": rule.severity}
                for rule in self.rules
            },
        }


def validate(
    bars: pd.DataFrame,
    *,
    timeframe: Timeframe,
    calendar: str,
    min_rows: int,
    max_jump: float,
    stale_bars: int,
    max_gap_bars: int = 0,
    repair: Sequence[str] = (),
) -> QualityReport:
    """Judge raw bars; the input is not changed.

    `timeframe` and `calendar` say which bars to expect; thresholds as in `data.rules.Limits`. `repair` lists
    bar times (ISO, UTC; for daily bars a date will do) that are dropped first. DataError when columns, types
    or time zone are wrong. Too few rows and too many bad ones do not raise here: see `enforce`.
    """
    from data import expectations

    limits = Limits(min_rows, max_jump, stale_bars, max_gap_bars)
    book = get_calendar(calendar)
    frame = bars.reset_index()
    structure, structure_json = expectations.run(frame.head(1), expectations.structure_suite())
    _require_structure(structure, frame)
    frame["timestamp"] = frame["timestamp"].dt.as_unit("ns")
    frame, repaired, unknown = _repaired(frame, repair, timeframe, book)

    measured = row_measures(frame)
    by_row, rows_json = expectations.run(measured, expectations.row_suite())
    bad = np.zeros(len(frame), dtype=bool)
    for outcome in by_row.values():
        bad[outcome.rows] = True
    clean = _canonical(frame[~bad])

    index = pd.DatetimeIndex(clean.index)
    expected = expected_bars(index, timeframe, book)
    series = series_measures(clean, expected)
    over_all, series_json = expectations.run(series, expectations.series_suite(limits))
    missing = expected.difference(index)
    return QualityReport(
        rules=[
            *(_passed(rule) for rule in structure),
            *(_row_result(rule, outcome.rows, frame) for rule, outcome in by_row.items()),
            *(_series_result(rule, o.rows, series, missing, limits) for rule, o in over_all.items()),
            _repair_result(unknown),
        ],
        clean=clean,
        quarantine=_quarantine(measured, bad, {rule: o.rows for rule, o in by_row.items()}),
        timeframe=timeframe,
        calendar=calendar,
        repaired=repaired,
        expectations={"structure": structure_json, "rows": rows_json, "series": series_json},
    )


def enforce(report: QualityReport, max_quarantined: int) -> None:
    """Stop when the report says so.

    QuarantineExceeded when more than `max_quarantined` rows are in quarantine, naming the counts, the rule
    that caught most and the first row; DataError when too few bars remain.
    """
    if len(report.quarantine) > max_quarantined:
        bad = [rule for rule in report.rules if rule.severity == "critical" and rule.stamps]
        worst = max(bad, key=lambda rule: rule.rows)
        first = report.quarantine.iloc[0]
        raise QuarantineExceeded(
            f"{len(report.quarantine)} of {len(report.clean) + len(report.quarantine)} rows are bad, more "
            f"than validate.max_quarantined = {max_quarantined}; worst rule {worst.id} ({worst.rows}), first "
            f"row {first['row']} at {_iso(report.quarantine.index[0])}: {first['reason']}; "
            f"{RULES[worst.id].remedy}"
        )
    short = next((r for r in report.rules if r.id == "row_count" and not r.passed), None)
    if short is not None:
        raise DataError(f"{short.detail}: {RULES['row_count'].remedy}")


def _require_structure(structure: dict[str, Any], frame: pd.DataFrame) -> None:
    found = ", ".join(f"{name} {dtype}" for name, dtype in frame.dtypes.items())
    for rule, outcome in structure.items():
        if not outcome.passed:
            raise DataError(
                f"bars have {found}: {RULES[rule].title.lower()} is the rule; {RULES[rule].remedy}"
            )


def _repaired(
    frame: pd.DataFrame, repair: Sequence[str], timeframe: Timeframe, calendar: Calendar
) -> tuple[pd.DataFrame, int, list[str]]:
    """The frame without the listed rows, how many were dropped, and entries that match no row."""
    times = {entry: _repair_time(entry, timeframe, calendar) for entry in repair}
    drop = frame["timestamp"].isin(list(times.values())).to_numpy()
    present = set(frame.loc[drop, "timestamp"])
    unknown = [entry for entry, time in times.items() if time not in present]
    return frame[~drop].reset_index(drop=True), int(drop.sum()), unknown


def _repair_time(entry: str, timeframe: Timeframe, calendar: Calendar) -> pd.Timestamp:
    text = str(entry)
    try:
        moment = pd.Timestamp(text)
    except ValueError as error:
        raise ConfigurationError(f"data.repair {text!r} is not an ISO time such as 2024-03-10") from error
    if len(text) <= 10 and timeframe.seconds == 86400:
        return calendar.session_closes(pd.DatetimeIndex([moment]))[0]
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    clean = frame.set_index("timestamp")[list(COLUMNS)].sort_index(kind="stable")
    clean.index = pd.DatetimeIndex(clean.index).tz_convert("UTC")
    return clean


def _quarantine(
    measured: pd.DataFrame, bad: "np.ndarray[Any, np.dtype[np.bool_]]", by_rule: dict[str, Any]
) -> pd.DataFrame:
    held = measured.loc[bad, ["timestamp", *COLUMNS]]
    held.insert(len(held.columns), "row", held.index.to_numpy(dtype=np.int64) + 1)
    held["reason"] = pd.Series(explain(measured, by_rule), dtype="object").reindex(held.index)
    return held.set_index("timestamp")


def _passed(rule: str) -> RuleResult:
    return RuleResult(rule, RULES[rule].severity, True, 0, "")


def _row_result(rule: str, rows: Any, frame: pd.DataFrame) -> RuleResult:
    if not len(rows):
        return _passed(rule)
    stamps = _named(frame["timestamp"].iloc[rows])
    return RuleResult(
        rule,
        RULES[rule].severity,
        False,
        len(rows),
        f"{len(rows)} row{'s' * (len(rows) > 1)}{_listing(stamps, len(rows))}",
        stamps,
    )


def _series_result(
    rule: str, rows: Any, series: pd.DataFrame, missing: pd.DatetimeIndex, limits: Limits
) -> RuleResult:
    if rule == "row_count":
        short = max(limits.min_rows - len(series), 0)
        text = f"{len(series)} bars remain, at least {limits.min_rows} are needed"
        return RuleResult(rule, RULES[rule].severity, short == 0, short, text if short else "")
    if not len(rows):
        return _passed(rule)
    times = series["timestamp"].iloc[rows]
    if rule == "gaps":
        lost = missing[np.isin(pd.DatetimeIndex(series["timestamp"]).searchsorted(missing), rows)]
        text = f"{len(lost)} bars missing in {len(rows)} gaps"
        return RuleResult(
            rule, "warning", False, len(lost), text + _listing(_named(lost), len(lost)), _named(lost)
        )
    text = f"{len(rows)} {_series_text(rule, series.iloc[rows], limits)}"
    return RuleResult(
        rule, "warning", False, len(rows), text + _listing(_named(times), len(rows)), _named(times)
    )


def _series_text(rule: str, rows: pd.DataFrame, limits: Limits) -> str:
    if rule == "stale":
        return f"bars in flat runs of {limits.stale_bars} or more, the longest {rows['flat_run'].max()}"
    if rule == "jumps":
        return f"bars beyond |log return| {limits.max_jump}, the largest {rows['log_return'].abs().max():.4f}"
    return "bars at times the calendar does not expect"


def _repair_result(unknown: list[str]) -> RuleResult:
    text = f"no row at {', '.join(unknown)}" if unknown else ""
    return RuleResult("repair", RULES["repair"].severity, not unknown, len(unknown), text, tuple(unknown))


def _named(times: Any) -> tuple[str, ...]:
    return tuple(_iso(time) for time in times[:_NAMED])


def _listing(stamps: tuple[str, ...], total: int) -> str:
    rest = f" and {total - len(stamps)} more" if total > len(stamps) else ""
    return f": {', '.join(stamps)}{rest}"


def _iso(time: Any) -> str:
    return "no time" if pd.isna(time) else str(pd.Timestamp(time).strftime("%Y-%m-%dT%H:%M:%SZ"))

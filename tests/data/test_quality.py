"""The gate: each fault is caught by the rule named for it, and nothing else is lost."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.bars import COLUMNS, check_bars
from core.errors import ConfigurationError, DataError, QuarantineExceeded
from core.timeframe import Timeframe
from data.quality import QualityReport, RuleResult, enforce, validate
from data.rules import RULES
from data.sources import SourceRequest, open_source

Make = Callable[..., pd.DataFrame]
Check = Callable[..., QualityReport]
PRICES = COLUMNS[:4]
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def broken(report: QualityReport) -> set[str]:
    return {rule.id for rule in report.rules if not rule.passed}


def finding(report: QualityReport, rule: str) -> RuleResult:
    return next(r for r in report.rules if r.id == rule)


def assert_nothing_lost(report: QualityReport, bars: pd.DataFrame) -> None:
    check_bars(report.clean)
    both = pd.concat([report.clean, report.quarantine[list(COLUMNS)]])
    order = np.lexsort([*both.to_numpy().T, both.index.asi8])
    expected = np.lexsort([*bars.to_numpy().T, bars.index.asi8])
    np.testing.assert_array_equal(both.to_numpy()[order], bars.to_numpy()[expected])
    np.testing.assert_array_equal(both.index.asi8[order], bars.index.asi8[expected])
    assert report.quarantine["reason"].str.len().gt(0).all()


def with_times(bars: pd.DataFrame, times: Any) -> pd.DataFrame:
    return bars.set_axis(pd.DatetimeIndex(times, name="timestamp"))


def test_sp500_holds_every_rule(sp500: pd.DataFrame) -> None:
    report = validate(
        sp500, timeframe=Timeframe(86400), calendar="XNYS", min_rows=1000, max_jump=0.25, stale_bars=5
    )
    assert broken(report) == set()
    pd.testing.assert_frame_equal(report.clean, sp500, check_exact=True)
    enforce(report, 0)


@pytest.mark.parametrize("file", ["nvda_1d", "orcl_1d", "eurusd_1h_2017", "index_future_1m_2006"])
def test_published_bars_are_not_quarantined(shared_data: Any, file: str) -> None:
    raw = open_source("csv").fetch(SourceRequest(file, shared_data / f"{file}.csv"))
    report = validate(
        raw.bars,
        timeframe=raw.timeframe,
        calendar=raw.calendar,
        min_rows=1000,
        max_jump=0.25,
        stale_bars=5,
    )
    assert len(report.quarantine) == 0
    assert broken(report) <= {"gaps", "off_calendar", "stale", "jumps"}


def test_every_rule_is_reported_in_order(make_bars: Make, check: Check) -> None:
    report = check(make_bars())
    assert [rule.id for rule in report.rules] == list(RULES)
    assert all(rule.severity == RULES[rule.id].severity for rule in report.rules)


@few
@given(
    row=st.integers(0, 47),
    column=st.sampled_from(COLUMNS),
    value=st.sampled_from([np.nan, np.inf, -np.inf, -1.0]),
)
def test_a_corrupt_cell_is_caught_by_its_rule(
    make_bars: Make, check: Check, row: int, column: str, value: float
) -> None:
    bars = make_bars()
    bars.loc[bars.index[row], column] = value
    report = check(bars)
    assert ("volume" if column == "volume" else "prices") in broken(report)
    assert list(report.quarantine["row"]) == [row + 1]
    assert_nothing_lost(report, bars)


@few
@given(row=st.integers(0, 47), column=st.sampled_from(PRICES), factor=st.sampled_from([0.5, 2.0]))
def test_an_inconsistent_bar_is_caught(
    make_bars: Make, check: Check, row: int, column: str, factor: float
) -> None:
    bars = make_bars()
    factor = {"high": 0.5, "low": 2.0}.get(column, factor)
    bars.loc[bars.index[row], column] *= factor
    report = check(bars, max_jump=2.0)
    assert broken(report) - {"gaps"} == {"ohlc"}
    assert report.quarantine["reason"].iloc[0].startswith("ohlc: ")
    assert_nothing_lost(report, bars)


@few
@given(order=st.permutations(range(12)))
def test_any_disorder_leaves_a_sorted_rest(make_bars: Make, check: Check, order: list[int]) -> None:
    bars = make_bars(12).iloc[order]
    report = check(bars)
    assert_nothing_lost(report, bars)
    assert ("increasing_time" in broken(report)) == (order != sorted(order))


@few
@given(
    rows=st.lists(st.integers(0, 11), min_size=1, max_size=14),
    edits=st.lists(st.tuples(st.integers(0, 13), st.sampled_from(COLUMNS)), max_size=3),
)
def test_repeats_and_faults_together_lose_nothing(
    make_bars: Make, check: Check, rows: list[int], edits: list[tuple[int, str]]
) -> None:
    bars = make_bars(12).iloc[rows].copy()
    for row, column in edits:
        bars.iloc[row % len(bars), COLUMNS.index(column)] = np.nan
    report = check(bars)
    assert_nothing_lost(report, bars)


def test_one_stray_time_costs_one_row(make_bars: Make, check: Check) -> None:
    times = make_bars().index.to_list()
    times[5] = pd.Timestamp("2081-01-01", tz="UTC")
    report = check(with_times(make_bars(), times))
    assert report.quarantine["row"].to_list() == [6]
    assert report.quarantine["reason"].to_list() == ["increasing_time: the row is out of time order"]


def test_of_a_swapped_pair_the_late_row_goes(make_bars: Make, check: Check) -> None:
    report = check(make_bars(6).iloc[[0, 1, 3, 2, 4, 5]])
    assert report.quarantine["row"].to_list() == [4]
    assert report.quarantine.index[0] == make_bars(6).index[2]


def test_of_identical_rows_one_stays(make_bars: Make, check: Check) -> None:
    report = check(make_bars(6).iloc[[0, 1, 1, 1, 2, 3]])
    assert report.quarantine["row"].to_list() == [3, 4]
    assert broken(report) == {"unique_time"}


def test_of_identical_rows_the_one_in_order_stays(make_bars: Make, check: Check) -> None:
    report = check(make_bars(6).iloc[[4, 0, 1, 2, 3, 4, 5]])
    assert report.quarantine["row"].to_list() == [1]
    assert len(report.clean) == 6


def test_rows_that_disagree_about_one_time_all_go(make_bars: Make, check: Check) -> None:
    bars = make_bars(6).iloc[[0, 1, 1, 2, 3]].copy()
    bars.iloc[2, 4] += 1
    report = check(bars)
    assert report.quarantine["row"].to_list() == [2, 3]


def test_a_row_without_a_time(make_bars: Make, check: Check) -> None:
    times = make_bars(6).index.to_list()
    times[2] = pd.NaT
    report = check(with_times(make_bars(6), times))
    assert report.quarantine["reason"].to_list() == ["time_known: the row has no time"]
    assert len(report.clean) == 5


def test_all_reasons_of_a_row_are_given(make_bars: Make, check: Check) -> None:
    bars = make_bars(6).iloc[[0, 1, 1, 2, 3]].copy()
    bars.iloc[2] = [np.nan, 1.0, 5.0, 7.0, -3.0]
    reasons = check(bars).quarantine["reason"].iloc[1].split("; ")
    assert reasons == [
        "unique_time: another row has the same time",
        "prices: open nan must be finite and above zero",
        "ohlc: high 1 < close 7, high 1 < low 5",
        "volume: volume -3 must be finite and not negative",
    ]


def test_zero_volume_is_valid(make_bars: Make, check: Check) -> None:
    assert broken(check(make_bars().assign(volume=0.0))) == set()


def test_gaps_are_named(make_bars: Make, check: Check) -> None:
    bars = make_bars(20).drop(make_bars(20).index[[5, 6, 12]])
    gaps = finding(check(bars), "gaps")
    assert (gaps.passed, gaps.rows) == (False, 3)
    assert gaps.stamps == ("2024-01-01T06:00:00Z", "2024-01-01T07:00:00Z", "2024-01-01T13:00:00Z")
    assert "3 bars missing in 2 gaps: 2024-01-01T06:00:00Z" in gaps.detail
    assert finding(check(bars, max_gap_bars=1), "gaps").rows == 2
    assert finding(check(bars, max_gap_bars=2), "gaps").passed


def test_a_quarantined_row_leaves_a_gap(make_bars: Make, check: Check) -> None:
    bars = make_bars()
    bars.iloc[7, 3] = np.nan
    assert finding(check(bars), "gaps").stamps == ("2024-01-01T08:00:00Z",)


def test_a_missing_session_and_a_sunday_bar(sp500: pd.DataFrame, check: Check) -> None:
    day = {"timeframe": Timeframe(86400), "calendar": "XNYS"}
    bars = sp500.iloc[:30]
    lost = bars.drop(bars.index[10])
    assert finding(check(lost, **day), "gaps").stamps == ("1999-01-19T21:00:00Z",)
    stray = with_times(bars, [*bars.index[:4], pd.Timestamp("1999-01-10 21:00", tz="UTC"), *bars.index[5:]])
    report = check(stray, **day)
    assert finding(report, "off_calendar").stamps == ("1999-01-10T21:00:00Z",)


@pytest.mark.parametrize(("length", "passed"), [(4, True), (5, False), (8, False)])
def test_stale_prices(make_bars: Make, check: Check, length: int, passed: bool) -> None:
    bars = make_bars()
    bars.iloc[10 : 10 + length, :4] = 100.0
    stale = finding(check(bars), "stale")
    assert (stale.passed, stale.rows) == (passed, 0 if passed else length)


def test_a_repeated_close_with_a_range_is_not_stale(make_bars: Make, check: Check) -> None:
    bars = make_bars()
    bars.iloc[10:20, :4] = [100.0, 101.0, 99.0, 100.0]
    assert finding(check(bars), "stale").passed


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_jumps(make_bars: Make, check: Check, factor: float) -> None:
    bars = make_bars()
    bars.iloc[20:, :4] *= factor
    jumps = finding(check(bars), "jumps")
    assert jumps.stamps == ("2024-01-01T21:00:00Z",)
    assert len(check(bars).quarantine) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.drop(columns="volume"), "columns are timestamp, open, high, low, close, volume"),
        (lambda b: b.assign(extra=1.0), "columns are timestamp"),
        (lambda b: b.rename_axis("Date"), "bars have Date datetime64"),
        (lambda b: b.astype({"close": str}), "prices and volume are float64"),
        (lambda b: b.astype({"volume": "float32"}), "prices and volume are float64"),
        (lambda b: b.tz_localize(None), "bar times are in utc"),
        (lambda b: b.tz_convert("America/New_York"), "bar times are in utc"),
        (lambda b: b.set_axis(pd.RangeIndex(len(b), name="timestamp")), "bar times are in utc"),
    ],
)
def test_a_wrong_structure_stops(
    make_bars: Make, check: Check, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check(change(make_bars()))


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_too_few_rows(make_bars: Make, check: Check, rows: int) -> None:
    report = check(make_bars(rows), min_rows=10)
    count = finding(report, "row_count")
    assert (count.passed, count.rows) == (False, 10 - rows)
    with pytest.raises(DataError, match=f"{rows} bars remain, at least 10 are needed: give a longer"):
        enforce(report, 0)


def test_too_many_bad_rows(make_bars: Make, check: Check) -> None:
    bars = make_bars()
    bars.iloc[[4, 9], 3] = np.nan
    bars.iloc[20, 4] = -1
    report = check(bars)
    enforce(report, 3)
    with pytest.raises(QuarantineExceeded) as caught:
        enforce(report, 2)
    assert str(caught.value) == (
        "3 of 48 rows are bad, more than validate.max_quarantined = 2; worst rule prices (2), first row 5 at "
        "2024-01-01T05:00:00Z: prices: close nan must be finite and above zero; "
        "fix the source or list the row under data.repair"
    )


def test_repair_drops_listed_rows_first(make_bars: Make, check: Check) -> None:
    bars = make_bars()
    bars.iloc[4, 3] = np.nan
    report = check(bars, repair=["2024-01-01T05:00:00Z", "2024-01-01 06:00"])
    assert (len(report.quarantine), report.repaired, len(report.clean)) == (0, 2, 46)
    enforce(report, 0)


def test_a_date_repairs_a_daily_bar(sp500: pd.DataFrame, check: Check) -> None:
    report = check(sp500[:50], repair=["1999-01-05"], timeframe=Timeframe(86400), calendar="XNYS")
    assert (report.repaired, len(report.clean)) == (1, 49)


def test_repair_entries_that_match_nothing_are_named(make_bars: Make, check: Check) -> None:
    result = finding(check(make_bars(), repair=["2031-01-01T05:00:00Z"]), "repair")
    assert (result.passed, result.rows) == (False, 1)
    assert "2031-01-01T05:00:00Z" in result.detail
    with pytest.raises(ConfigurationError, match=r"data\.repair 'tuesday'"):
        check(make_bars(), repair=["tuesday"])


def test_the_input_is_not_changed(make_bars: Make, check: Check) -> None:
    bars = make_bars().iloc[[0, 2, 1, 3, 3]]
    before = bars.copy()
    check(bars)
    pd.testing.assert_frame_equal(bars, before)


def test_machine_form_is_strict_json_and_repeats(make_bars: Make, check: Check) -> None:
    bars = make_bars()
    bars.iloc[4, :3] = [np.nan, np.inf, -np.inf]
    one, two = check(bars), check(bars)
    pd.testing.assert_frame_equal(one.quarantine, two.quarantine)
    for first, second in ((one.metrics(), two.metrics()), (one.expectations, two.expectations)):
        assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert one.metrics()["quarantined"] == 1
    assert one.metrics()["rules"]["prices"] == {"passed": False, "rows": 1, "severity": "critical"}


def test_other_time_units_become_nanoseconds(make_bars: Make, check: Check) -> None:
    report = check(make_bars().set_axis(make_bars().index.as_unit("s")))
    pd.testing.assert_frame_equal(report.clean, make_bars(), check_freq=False)

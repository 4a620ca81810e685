"""The hours a bundle carries say of every bar what the full calendars say."""

from itertools import pairwise

import pandas as pd
import pytest

from core.calendar import get_calendar
from core.market_hours import MarketHours
from core.timeframe import Timeframe
from pipelines.market_hours import market_hours


@pytest.mark.parametrize("timeframe", ["1d", "1h", "15m"])
@pytest.mark.parametrize("name", ["XNYS", "CMES", "24/5", "24/7"])
def test_no_gap_where_no_bar_is_missing_and_one_where_one_is(name: str, timeframe: str) -> None:
    frame = Timeframe.parse(timeframe)
    hours = market_hours(name, "2018-01-02T00:00:00+00:00")
    start, end = (pd.Timestamp(day, tz="UTC") for day in ("2018-06-25", "2018-12-27"))
    expected = get_calendar(name).expected(start, end, frame)
    closes = [moment.timestamp() for moment in expected]
    assert len(closes) > 100
    assert not any(hours.missing(a, b, frame.seconds) for a, b in pairwise(closes))
    skipped = zip(closes, closes[2:], strict=False)
    assert all(hours.missing(a, b, frame.seconds) == 1 for a, b in skipped)
    assert hours.missing(closes[0], closes[-1], frame.seconds) == len(closes) - 2


def test_the_real_series_has_no_gap_over_holidays_and_early_closes(sp500: pd.DataFrame) -> None:
    hours = market_hours("XNYS", "2007-06-29T20:00:00+00:00")
    rows = sp500.loc["2007-06-29":"2010-06-01"].index
    closes = [moment.timestamp() for moment in rows]
    assert sum(hours.missing(a, b, 86_400) for a, b in pairwise(closes)) == 0


def test_holidays_are_known_for_three_years_and_do_not_depend_on_today() -> None:
    hours = market_hours("XNYS", "2015-12-31T21:00:00+00:00")
    assert hours == market_hours("XNYS", "2015-12-31T21:00:00+00:00")
    assert (hours.timezone, hours.opens, hours.closes) == ("America/New_York", 570, 960)
    assert hours.special["2018-07-03"] == [570, 780]
    assert hours.special["2018-12-05"] == []
    assert hours.until == "2018-12-31"


@pytest.mark.parametrize(("seconds", "missing"), [(604_800, 2), (3 * 86_400, 0)])
def test_weeks_are_counted_and_odd_spans_of_days_are_not_judged(seconds: int, missing: int) -> None:
    assert MarketHours("XNYS").missing(0.0, 21 * 86_400.0, seconds) == missing


def test_an_unknown_time_zone_is_taken_for_utc() -> None:
    assert MarketHours("X", timezone="No/Where").missing(86_400.0 * 4, 86_400.0 * 7, 86_400) >= 1

import pandas as pd
import pytest

from core.calendar import get_calendar, infer_calendar
from core.errors import ConfigurationError
from core.timeframe import Timeframe


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("name", "timeframe", "periods"),
    [
        ("XNYS", "1d", 252),
        ("XNYS", "1w", 36),
        ("XNYS", "1h", 1638),
        ("XNYS", "1m", 98280),
        ("24/7", "1d", 365),
        ("24/7", "1h", 8760),
        ("24/5", "1h", 6240),
    ],
)
def test_periods_per_year(name: str, timeframe: str, periods: float) -> None:
    assert get_calendar(name).periods_per_year(Timeframe.parse(timeframe)) == pytest.approx(periods)


def test_closes_know_summer_time_and_early_closes() -> None:
    days = pd.DatetimeIndex(["2007-01-03", "2007-07-02", "2007-07-03"])
    closes = get_calendar("XNYS").session_closes(days)
    assert list(closes) == [utc("2007-01-03 21:00"), utc("2007-07-02 20:00"), utc("2007-07-03 17:00")]


def test_a_day_without_session_gets_the_usual_close() -> None:
    assert list(get_calendar("XNYS").session_closes(pd.DatetimeIndex(["2007-01-01"]))) == [
        utc("2007-01-01 21:00")
    ]


def test_expected_days_skip_holidays() -> None:
    days = get_calendar("XNYS").expected(utc("2001-09-10"), utc("2001-09-18"), Timeframe.parse("1d"))
    assert [str(day.date()) for day in days] == ["2001-09-10", "2001-09-17"]


def test_expected_hours_end_with_the_session() -> None:
    hours = get_calendar("XNYS").expected(utc("2007-07-03"), utc("2007-07-03 23:00"), Timeframe.parse("1h"))
    assert [str(hour.time()) for hour in hours] == ["14:30:00", "15:30:00", "16:30:00", "17:00:00"]


def test_currency_week_is_closed_on_saturday() -> None:
    hours = get_calendar("24/5").expected(utc("2017-05-05"), utc("2017-05-08"), Timeframe.parse("1h"))
    assert not any(hour.dayofweek == 5 and hour.hour > 0 for hour in hours)
    assert utc("2017-05-05 12:00") in hours


def test_unknown_calendar_names_the_choices() -> None:
    with pytest.raises(ConfigurationError, match="XNYS"):
        get_calendar("NOWHERE")


def test_calendar_is_inferred_from_bar_times() -> None:
    every = pd.date_range("2017-01-01", periods=2000, freq="h", tz="UTC")
    assert infer_calendar(every) == "24/7"
    assert infer_calendar(every[every.dayofweek < 5]) == "24/5"
    assert infer_calendar(pd.bdate_range("2017-01-02", periods=500, tz="UTC")) == "XNYS"

"""When bars are expected: exchange sessions, round the clock, or the five-day currency week."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigurationError
from core.timeframe import Timeframe

_DAY = 86400


class Calendar(Protocol):
    """What data checks and annualisation need to know of a market."""

    @property
    def name(self) -> str:
        """The name that `get_calendar` takes."""

    def session_closes(self, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """UTC close of the session of each naive date; a date without a session gets the usual close."""

    def expected(self, start: pd.Timestamp, end: pd.Timestamp, timeframe: Timeframe) -> pd.DatetimeIndex:
        """UTC closes of the bars expected in [start, end]."""

    def periods_per_year(self, timeframe: Timeframe) -> float:
        """Bars in a year, for annualisation."""


@dataclass(frozen=True)
class WeekCalendar:
    """Bars every day ("24/7"), or from Sunday 22:00 to Friday 22:00 UTC ("24/5")."""

    name: str
    days_per_year: int

    def session_closes(self, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        return dates.tz_localize("UTC") + pd.Timedelta(days=1)

    def expected(self, start: pd.Timestamp, end: pd.Timestamp, timeframe: Timeframe) -> pd.DatetimeIndex:
        step = pd.Timedelta(seconds=timeframe.seconds)
        closes = pd.date_range(start, end, freq=step)
        return closes if self.name == "24/7" else closes[self._open(closes, step)]

    @staticmethod
    def _open(closes: pd.DatetimeIndex, step: pd.Timedelta) -> NDArray[Any]:
        if step >= pd.Timedelta(days=1):
            return np.asarray((closes - step).dayofweek < 5)
        # 22:00 UTC is 17:00 New York in winter; an hour either side of it in summer counts as open.
        begin = closes - step
        hours = begin.dayofweek * 24 + begin.hour
        return np.asarray((hours < 4 * 24 + 21) | (hours >= 6 * 24 + 22))

    def periods_per_year(self, timeframe: Timeframe) -> float:
        return self.days_per_year * _DAY / timeframe.seconds


@dataclass(frozen=True)
class ExchangeCalendar:
    """Sessions of an exchange by its ISO code, from `exchange_calendars`."""

    name: str

    def session_closes(self, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        if len(dates) == 0:
            return pd.DatetimeIndex([], tz="UTC")
        book = _exchange(self.name)
        closes = pd.Series(book.closes).reindex(dates).to_numpy()
        usual = (dates + _usual_close(self.name)).tz_localize(book.tz).tz_convert("UTC")
        known = pd.DatetimeIndex(closes, tz="UTC")
        return pd.DatetimeIndex(known.where(known.notna(), usual))

    def expected(self, start: pd.Timestamp, end: pd.Timestamp, timeframe: Timeframe) -> pd.DatetimeIndex:
        book = _exchange(self.name)
        closes = pd.DatetimeIndex(book.closes)
        if not timeframe.intraday:
            sessions = closes[(closes >= start) & (closes <= end)]
            return sessions if timeframe.seconds == _DAY else sessions[:0]
        opens = pd.DatetimeIndex(book.opens)
        inside = (closes >= start) & (opens <= end)
        step = timeframe.seconds
        grids = [_session_grid(o, c, step) for o, c in zip(opens[inside], closes[inside], strict=True)]
        grid = pd.DatetimeIndex(np.concatenate(grids)).tz_localize("UTC") if grids else closes[:0]
        return grid[(grid >= start) & (grid <= end)]

    def periods_per_year(self, timeframe: Timeframe) -> float:
        if not timeframe.intraday:
            return 252 * _DAY / timeframe.seconds
        book = _exchange(self.name)
        length = float(
            np.median((pd.DatetimeIndex(book.closes) - pd.DatetimeIndex(book.opens)).total_seconds())
        )
        return 252 * max(length / timeframe.seconds, 1.0)


def _session_grid(opening: pd.Timestamp, close: pd.Timestamp, step: int) -> NDArray[Any]:
    seconds = int((close - opening).total_seconds())
    offsets = np.minimum(np.arange(step, seconds + step, step), seconds)
    return np.asarray(opening.tz_convert(None).to_datetime64() + offsets.astype("timedelta64[s]"))


@lru_cache(maxsize=8)
def _exchange(code: str) -> Any:
    import exchange_calendars

    try:
        return exchange_calendars.get_calendar(code, start="1990-01-01")
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise ConfigurationError(
            f"data.calendar {code!r} is unknown: use 24/7, 24/5, auto, or an exchange code such as XNYS"
        ) from error


@lru_cache(maxsize=8)
def _usual_close(code: str) -> pd.Timedelta:
    book = _exchange(code)
    local = pd.DatetimeIndex(book.closes).tz_convert(book.tz)
    return pd.Timedelta((local - local.normalize()).to_series().mode().iloc[0])


def get_calendar(name: str) -> Calendar:
    """A calendar by name: "24/7", "24/5" or an exchange code; ConfigurationError when unknown."""
    if name == "24/7":
        return WeekCalendar(name, 365)
    if name == "24/5":
        return WeekCalendar(name, 260)
    _exchange(name)
    return ExchangeCalendar(name)


def infer_calendar(index: pd.DatetimeIndex) -> str:
    """Name the calendar that fits UTC bar times: weekend bars → 24/7, all hours → 24/5, else XNYS."""
    days = np.asarray(index.dayofweek)
    if (days == 5).mean() > 0.05:
        return "24/7"
    return "24/5" if np.unique(np.asarray(index.hour)).size >= 20 else "XNYS"

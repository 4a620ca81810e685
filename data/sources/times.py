"""From a column of times, however written, to the UTC close of each bar."""

import re
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from core.calendar import get_calendar, infer_calendar
from core.errors import DataError
from core.timeframe import Timeframe, infer
from data.sources import Moment

# Below each limit a number counts seconds, ms, us or ns; the second figure is that unit in ns.
_EPOCH_UNITS = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000), (1e20, 1))
_LAST_NS = float(pd.Timestamp.max.value)
# Only after a time of day: the end of 2024-03-10 is no offset.
_OFFSET = r"([T ]\d{2}:?\d{2}.*?)(?:Z|[+-]\d{2}:?\d{2})$"
_REMEDY = "write ISO 8601 (2024-03-10 14:30:00 or 2024-03-10) or an epoch number in s, ms, us or ns"


@dataclass(frozen=True)
class Times:
    """Parsed times.

    `utc`: the instants. `dates`: naive dates when every time as written is midnight, else None. `bare`: no
    time of day was written.
    """

    utc: pd.DatetimeIndex
    dates: pd.DatetimeIndex | None
    bare: bool


@dataclass(frozen=True)
class Stamps:
    """Bar closes with the timeframe and calendar they follow."""

    closes: pd.DatetimeIndex
    timeframe: Timeframe
    calendar: str


def parse_times(column: pd.Series) -> Times:
    """Read ISO text, epoch numbers (unit by magnitude), yyyymmdd or datetimes; text without a zone is UTC.

    DataError names the first row, counted from 1 below the header, that cannot be read.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        return _from_datetimes(column)
    if column.dtype.kind in "iuf":
        return _from_numbers(column)
    return _from_text(column.astype("string").str.strip())


def _from_datetimes(column: pd.Series) -> Times:
    _refuse(column.isna().to_numpy(), column)
    index = pd.DatetimeIndex(column).as_unit("ns")
    dates = _midnights(index.tz_localize(None))
    if index.tz is None:
        return Times(index.tz_localize("UTC"), dates, bare=dates is not None)
    return Times(index.tz_convert("UTC"), dates, bare=False)


def _midnights(wall: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    return wall if bool((wall == wall.normalize()).all()) else None


def _from_numbers(column: pd.Series) -> Times:
    values = column.to_numpy()
    bad = ~np.isfinite(values.astype("float64"))
    _refuse(bad, column)
    if values.size and ((values >= 19000101) & (values <= 21001231)).all():
        return _from_text(column.astype("int64").astype("string"))
    largest = float(np.abs(values).max(initial=0))
    limit, scale = next((unit for unit in _EPOCH_UNITS if largest < unit[0]), _EPOCH_UNITS[-1])
    # One unit per column: a value a thousand times smaller than its neighbours was written in another one.
    foreign = (values < limit / 1e4) & (largest >= limit / 1e4)
    _refuse(foreign | (values < 0) | (values > _LAST_NS / scale), column)
    whole = np.floor(values).astype("int64")
    rest = np.round((values - whole) * scale).astype("int64") if column.dtype.kind == "f" else 0
    index = pd.DatetimeIndex(whole * scale + rest).as_unit("ns")
    return Times(index.tz_localize("UTC"), _midnights(index), bare=False)


def _from_text(text: pd.Series) -> Times:
    if text.size and re.match(r"\d{4}[./]\d{1,2}[./]\d{1,2}", str(text.iloc[0])):
        text = text.str.replace(r"^(\d{4})[./](\d{2})[./](\d{2})", r"\1-\2-\3", regex=True)
    utc = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    _refuse(utc.isna().to_numpy(), text)
    index = pd.DatetimeIndex(utc).as_unit("ns")
    bare = bool((text.str.len() <= len("2024-03-10")).all())
    if re.search(r"\d[T ](?!00:?00)", str(text.iloc[0])):
        return Times(index, None, bare)
    wall = pd.to_datetime(text.str.replace(_OFFSET, r"\1", regex=True), format="ISO8601", utc=True)
    return Times(index, _midnights(pd.DatetimeIndex(wall).tz_localize(None)), bare)


def _refuse(bad: np.ndarray[tuple[int], np.dtype[np.bool_]], column: pd.Series) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"time {column.iloc[row]!r} in row {row + 1} cannot be read: {_REMEDY}")


def stamp(times: Times, timeframe: str, calendar: str, *, opening: bool) -> Stamps:
    """The UTC close of every bar.

    A daily bar that carries a date is stamped at that session's close. Midnights with a written time count
    as dates where the calendar is an exchange, and as instants round the clock. `opening` says that the
    times are bar opens: a bar's length is added. Every other time is taken as the close.
    """
    length = infer(times.utc.asi8 // 1_000_000_000) if timeframe == "auto" else Timeframe.parse(timeframe)
    name = infer_calendar(times.utc) if calendar == "auto" else calendar
    exchange_day = length.seconds == 86400 and not name.startswith("24/")
    dates = times.dates if times.bare or exchange_day else None
    if length.intraday or dates is None:
        closes = times.utc + pd.Timedelta(seconds=length.seconds if opening else 0)
    elif length.seconds != 86400:
        raise DataError(
            f"{length} bars with dates only: a date does not say whether it opens or closes the bar; "
            "write closing times, or set data.timeframe to 1d if the bars are daily"
        )
    else:
        closes = get_calendar(name).session_closes(dates)
    # Some exchanges write a close as the last millisecond of the bar.
    closes = pd.DatetimeIndex(closes).as_unit("ns").ceil("s")
    return Stamps(closes.rename("timestamp"), length, name)


def between(bars: pd.DataFrame, start: Moment, until: Moment) -> pd.DataFrame:
    """Rows from `start` to `until`, both inclusive (see `SourceRequest`); DataError when none are left."""
    keep = np.ones(len(bars), dtype=bool)
    if start is not None:
        moment, whole_day = _moment(start, "start")
        keep &= np.asarray(bars.index > moment if whole_day else bars.index >= moment)
    if until is not None:
        moment, whole_day = _moment(until, "until")
        keep &= np.asarray(bars.index <= moment + pd.Timedelta(days=1 if whole_day else 0))
    if len(bars) and not keep.any():
        raise DataError(
            f"no bars from {start or 'the start'} until {until or 'the end'}: the source has "
            f"{bars.index.min()} to {bars.index.max()}; change data.start or data.until"
        )
    return bars[keep]


def _moment(value: str | date | datetime, name: str) -> tuple[pd.Timestamp, bool]:
    """The moment as UTC, and whether it is a whole day."""
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise DataError(f"data.{name} {value!r} is not a time: {_REMEDY}") from error
    whole_day = len(value) <= 10 if isinstance(value, str) else not isinstance(value, datetime)
    return (moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")), whole_day

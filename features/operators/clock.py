"""Calendar operators over `time`: the bar's close in epoch seconds, UTC.

Dates are those of the proleptic Gregorian calendar (Hinnant, civil_from_days).
"""

import math

from features.operators.elementwise import elementwise
from features.operators.spec import njit

SECONDS_PER_DAY = 86400.0


@njit
def _from_march(time: float) -> tuple[float, float]:
    """Years since 1 March 0000, and the day of that year: 0 on 1 March, a leap day last."""
    days = math.floor(time / SECONDS_PER_DAY) + 719468.0
    era = math.floor(days / 146097.0)
    day = days - 146097.0 * era
    leaps = math.floor(day / 1460.0) - math.floor(day / 36524.0) + math.floor(day / 146096.0)
    year = math.floor((day - leaps) / 365.0)
    elapsed = 365.0 * year + math.floor(year / 4.0) - math.floor(year / 100.0)
    return 400.0 * era + year, day - elapsed


@njit
def _divides(divisor: float, year: float) -> bool:
    # a remainder would be a call of the C library for every bar
    return divisor * math.floor(year / divisor) == year


@njit
def _leap_day(year: float) -> float:
    """1 in a leap year, else 0."""
    leap = _divides(4.0, year) and (_divides(400.0, year) or not _divides(100.0, year))
    return 1.0 if leap else 0.0


@njit
def _month_from_march(day: float) -> float:
    """0 March ... 11 February."""
    return math.floor((5.0 * day + 2.0) / 153.0)


@njit
def _days_before(month: float) -> float:
    """Days from 1 March to the first of a month counted from March."""
    return math.floor((153.0 * month + 2.0) / 5.0)


@elementwise(1)
def day_of_week(time: float) -> float:
    """0 Monday ... 6 Sunday."""
    days = math.floor(time / SECONDS_PER_DAY) + 3.0  # 1970-01-01 was a Thursday
    return days - 7.0 * math.floor(days / 7.0)


@elementwise(1)
def hour_of_day(time: float) -> float:
    """0 <= hour < 24, with its fraction."""
    return (time - SECONDS_PER_DAY * math.floor(time / SECONDS_PER_DAY)) / 3600.0


@elementwise(1)
def day_of_year(time: float) -> float:
    """0 on 1 January ... 365."""
    year, day = _from_march(time)
    return day - 306.0 if day >= 306.0 else day + 59.0 + _leap_day(year)


@elementwise(1)
def day_of_month(time: float) -> float:
    """1 ... 31."""
    _, day = _from_march(time)
    return day - _days_before(_month_from_march(day)) + 1.0


@elementwise(1)
def days_in_month(time: float) -> float:
    """28 ... 31: the length of the month in which the time lies."""
    year, day = _from_march(time)
    month = _month_from_march(day)
    february = 28.0 + _leap_day(year + 1.0)
    return february if month == 11.0 else _days_before(month + 1.0) - _days_before(month)


@elementwise(1)
def month(time: float) -> float:
    """1 January ... 12 December."""
    _, day = _from_march(time)
    shifted = _month_from_march(day)
    return shifted + 3.0 if shifted < 10.0 else shifted - 9.0


@elementwise(1)
def month_number(time: float) -> float:
    """Months since January of the year 0: larger by one in every month."""
    year, day = _from_march(time)
    return 12.0 * year + _month_from_march(day) + 2.0


@elementwise(1)
def day_start(time: float) -> float:
    """The midnight, UTC, at which the day of a bar began; a close at midnight ends the day before."""
    return SECONDS_PER_DAY * (math.ceil(time / SECONDS_PER_DAY) - 1.0)

"""Calendar operators over `time`: the bar's close in epoch seconds, UTC."""

import math

from features.operators.elementwise import elementwise

SECONDS_PER_DAY = 86400.0


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
    """0 on 1 January ... 365, in the proleptic Gregorian calendar (Hinnant, days_from_civil)."""
    days = math.floor(time / SECONDS_PER_DAY) + 719468.0
    era_day = days - 146097.0 * math.floor(days / 146097.0)
    leaps = math.floor(era_day / 1460.0) - math.floor(era_day / 36524.0) + math.floor(era_day / 146096.0)
    year = math.floor((era_day - leaps) / 365.0)
    from_march = era_day - (365.0 * year + math.floor(year / 4.0) - math.floor(year / 100.0))
    if from_march >= 306.0:
        return from_march - 306.0
    leap = year % 4.0 == 0.0 and (year % 100.0 != 0.0 or year % 400.0 == 0.0)
    return from_march + (60.0 if leap else 59.0)


@elementwise(1)
def month(time: float) -> float:
    """1 January ... 12 December."""
    days = math.floor(time / SECONDS_PER_DAY) + 719468.0
    era_day = days - 146097.0 * math.floor(days / 146097.0)
    leaps = math.floor(era_day / 1460.0) - math.floor(era_day / 36524.0) + math.floor(era_day / 146096.0)
    year = math.floor((era_day - leaps) / 365.0)
    from_march = era_day - (365.0 * year + math.floor(year / 4.0) - math.floor(year / 100.0))
    shifted = math.floor((5.0 * from_march + 2.0) / 153.0)
    return shifted + 3.0 if shifted < 10.0 else shifted - 9.0

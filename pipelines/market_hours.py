"""What a bundle carries of an exchange's calendar: ordinary hours, and every exception of the next years."""

from collections import Counter

import pandas as pd

from core.market_hours import MarketHours

YEARS = 3


def market_hours(name: str, as_of: str) -> MarketHours:
    """The hours of calendar `name`, its exceptions from `as_of` (ISO) on for three years.

    The span depends on `as_of` alone, not on the day this runs, so equal inputs give an equal manifest.
    """
    if name in ("24/7", "24/5"):
        return MarketHours(name)
    import exchange_calendars

    first = pd.Timestamp(as_of).tz_convert(None).normalize()
    last = first + pd.DateOffset(years=YEARS)
    latest = exchange_calendars.get_calendar(name).bound_max()
    if latest is not None:
        last = min(last, latest)
    # two years before, so that there are ordinary sessions to learn the usual hours from
    book = exchange_calendars.get_calendar(name, start=first - pd.DateOffset(years=2), end=last)
    sessions = {
        day: (_minutes(day, opened, book.tz), _minutes(day, closed, book.tz))
        for day, opened, closed in zip(book.sessions, book.opens, book.closes, strict=True)
    }
    usual = Counter(sessions.values()).most_common(1)[0][0]
    weekdays = tuple(sorted({day.weekday() for day in sessions}))
    special = {}
    for day in pd.date_range(first, last):
        held = sessions.get(day)
        if held != (usual if day.weekday() in weekdays else None):
            special[day.date().isoformat()] = list(held) if held else []
    return MarketHours(name, str(book.tz), weekdays, *usual, special, last.date().isoformat())


def _minutes(day: pd.Timestamp, moment: pd.Timestamp, zone: object) -> int:
    local = moment.tz_convert(zone).tz_localize(None)
    return int((local - day).total_seconds() // 60)

"""When bars are expected, without pandas: what a bundle carries of its calendar, so that gaps are seen."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_DAY, _WEEK = 86_400, 604_800
_MINUTES = 1440
# A longer silence is not counted bar by bar: it is not a gap but another beginning.
_LONGEST_DAYS = 3660


class MarketHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A calendar by name, and for an exchange its sessions.

    `opens` and `closes` are minutes from the local midnight of the session's date, of an ordinary session on
    one of `weekdays` (Monday 0). `special` maps other dates, ISO, to their own two minutes, or to [] when
    there is no session; it is complete through `until`, after which
    a holiday looks like a gap. "24/7" and "24/5" need none of it.
    """

    name: str
    timezone: str = "UTC"
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    opens: int = 0
    closes: int = _MINUTES
    special: dict[str, list[int]] = {}
    until: str = ""

    def missing(self, last: float, new: float, seconds: int) -> int:
        """How many bars of `seconds` should have closed between two bar closes, epoch seconds UTC.

        A quarter of a bar of slack at both ends. Timeframes of several days, but whole weeks, are not judged.
        """
        if new - last <= 1.25 * seconds:
            return 0
        if self.name == "24/7" or seconds % _WEEK == 0:
            return max(0, round((new - last) / seconds) - 1)
        if seconds > _DAY:
            return 0
        if self.name == "24/5":
            return _week_missing(last, new, seconds)
        return self._sessions_missing(last + seconds / 4, new - seconds / 4, seconds)

    def _sessions_missing(self, after: float, before: float, seconds: int) -> int:
        zone = _zone(self.timezone)
        first, count = _day(after) - timedelta(days=2), 0
        days = min((_day(before) - first).days + 2, _LONGEST_DAYS)
        for day in (first + timedelta(days=n) for n in range(days + 1)):
            if (session := self._session(day)) is None:
                continue
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            opened, closed = ((midnight + timedelta(minutes=m)).timestamp() for m in session)
            if closed > after and opened < before:
                count += _closes_between(opened, closed, after, before, seconds)
        return count

    def _session(self, day: date) -> tuple[int, int] | None:
        special = self.special.get(day.isoformat())
        if special is not None:
            return (special[0], special[1]) if special else None
        return (self.opens, self.closes) if day.weekday() in self.weekdays else None


def _closes_between(opened: float, closed: float, after: float, before: float, seconds: int) -> int:
    if seconds >= _DAY:
        return int(after < closed < before)
    bars = -(-int(closed - opened) // seconds)
    times = (min(opened + n * seconds, closed) for n in range(1, bars + 1))
    return sum(after < time < before for time in times)


def _week_missing(last: float, new: float, seconds: int) -> int:
    steps = min(round((new - last) / seconds), _LONGEST_DAYS * _DAY // seconds)
    return sum(_week_open(last + n * seconds, seconds) for n in range(1, steps))


def _week_open(close: float, seconds: int) -> bool:
    """The rule of `core.calendar.WeekCalendar`: open from Sunday 22:00 to Friday 22:00 UTC, give an hour."""
    begin = datetime.fromtimestamp(close - seconds, UTC)
    if seconds >= _DAY:
        return begin.weekday() < 5
    hour = begin.weekday() * 24 + begin.hour
    return hour < 4 * 24 + 21 or hour >= 6 * 24 + 22


def _day(moment: float) -> date:
    return datetime.fromtimestamp(moment, UTC).date()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")

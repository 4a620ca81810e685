"""Bars that should have come between two bars, by the market's hours; they are reported, never filled."""

from collections.abc import Callable

import msgspec

from core.bundle import Manifest
from core.timeframe import Timeframe
from serving.bar import iso

_DAY = 86_400
# Markets of unknown hours: the longest closure that needs no explanation, a weekend with two holidays.
_USUAL_CLOSURE = 4 * _DAY

Rule = Callable[[float, float], int]


class Gap(msgspec.Struct, frozen=True):
    """`missing` bars between the closes `after` and `before`, epoch seconds UTC.

    `bar` is the number of the bar that ended it.
    """

    after: float
    before: float
    missing: int
    bar: int


class Gaps:
    """The newest gap of one symbol, and how many there were."""

    def __init__(self, rule: Rule | None) -> None:
        self.rule = rule
        self.last: Gap | None = None
        self.count = self.missing = 0

    def note(self, after: float, before: float, bar: int) -> None:
        """Look at the time between two bars in a row, the second being number `bar`."""
        missing = self.rule(after, before) if self.rule is not None else 0
        if missing:
            self.last = Gap(after, before, missing, bar)
            self.count, self.missing = self.count + 1, self.missing + missing

    def resume(self, last: Gap | None, count: int, missing: int) -> None:
        """Continue from what was saved."""
        self.last, self.count, self.missing = last, count, missing

    def reason(self, bars: int, window: int) -> str | None:
        """The newest gap in words while it lies in the last `window` of `bars` bars."""
        gap = self.last
        if gap is None or bars - gap.bar >= window:
            return None
        some = "1 bar is" if gap.missing == 1 else f"{gap.missing} bars are"
        return f"{some} missing between {iso(gap.after)} and {iso(gap.before)}, {bars - gap.bar} bars ago"


def gap_rule(manifest: Manifest) -> Rule:
    """The rule of a bundle's market.

    A bundle without hours knows no holidays and no sessions: only a silence longer than four days and than
    two bars is a gap, counted in bars of the clock.
    """
    seconds, hours = Timeframe.parse(manifest.timeframe).seconds, manifest.hours
    limit = 1.25 * seconds

    def by_hours(last: float, new: float) -> int:
        # one comparison for the usual bar
        return 0 if hours is None or new - last <= limit else hours.missing(last, new, seconds)

    def by_clock(last: float, new: float) -> int:
        silence = new - last
        return int(silence // seconds) - 1 if silence > max(_USUAL_CLOSURE, 2 * seconds) + seconds / 4 else 0

    return by_clock if hours is None else by_hours

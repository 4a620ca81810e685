"""The quality rules: what each one says, how grave it is, what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]
_MEND_ROW = "fix the source or list the row under data.repair"


@dataclass(frozen=True)
class Rule:
    """One rule. Critical row faults send the row to quarantine; warnings leave it where it is."""

    id: str
    title: str
    severity: Severity
    remedy: str


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules.

    `min_rows`: bars that must remain. `max_jump`: largest believable |log return| between two closes.
    `stale_bars`: this many bars in a row without range at one price are stale. `max_gap_bars`: longest run
    of missing bars that is not reported.
    """

    min_rows: int
    max_jump: float
    stale_bars: int
    max_gap_bars: int = 0


RULES: Mapping[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(
            "schema",
            "Columns are timestamp, open, high, low, close, volume",
            "critical",
            "rename or add the columns",
        ),
        Rule("types", "Prices and volume are float64", "critical", "let the source convert the columns"),
        Rule("utc", "Bar times are in UTC", "critical", "let the source convert the times to UTC"),
        Rule("time_known", "Every bar has a time", "critical", _MEND_ROW),
        Rule("increasing_time", "Bars are in time order", "critical", _MEND_ROW),
        Rule("unique_time", "No two bars share a time", "critical", _MEND_ROW),
        Rule("prices", "Prices are finite and positive", "critical", _MEND_ROW),
        Rule("ohlc", "High and low enclose open and close", "critical", _MEND_ROW),
        Rule("volume", "Volume is finite and not negative", "critical", _MEND_ROW),
        Rule(
            "row_count", "Enough bars remain", "critical", "give a longer history or lower validate.min_rows"
        ),
        Rule("gaps", "No bar of the calendar is missing", "warning", "fill the gap at the source"),
        Rule("off_calendar", "No bar outside the calendar", "warning", "check data.calendar and time zone"),
        Rule("stale", "Prices move", "warning", "check the source for a stopped feed"),
        Rule("jumps", "No implausible jump", "warning", "check for a split or a bad print"),
        Rule(
            "repair",
            "Every row listed for repair was found",
            "warning",
            "remove the entry from data.repair or correct its time",
        ),
    )
}

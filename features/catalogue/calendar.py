"""Where the bar's close falls in the day, the week, the month and the year (UTC), and in its session.

A session is a day in UTC, from midnight to midnight; on daily bars it is one bar. What counts from a
session's first bar is NaN until history holds one.
"""

from features.catalogue.entry import Feature, group

_LOWEST = "-highest_since(-low, new_session)"

FEATURES: tuple[Feature, ...] = group(
    "calendar",
    ("hour_sin", "cycle_sin(hour_of_day(time), 24)", "[-1, 1]", ""),
    ("hour_cos", "cycle_cos(hour_of_day(time), 24)", "[-1, 1]", ""),
    ("weekday_sin", "cycle_sin(day_of_week(time), 7)", "[-1, 1]", ""),
    ("weekday_cos", "cycle_cos(day_of_week(time), 7)", "[-1, 1]", ""),
    ("month_sin", "cycle_sin(month(time), 12)", "[-1, 1]", ""),
    ("month_cos", "cycle_cos(month(time), 12)", "[-1, 1]", ""),
    ("year_sin", "cycle_sin(day_of_year(time), 365.2425)", "[-1, 1]", ""),
    ("year_cos", "cycle_cos(day_of_year(time), 365.2425)", "[-1, 1]", ""),
    ("month_position", "(day_of_month(time) - 1) / (days_in_month(time) - 1)", "[0, 1]", ""),
    (
        "turn_of_month",
        "max(4 >= day_of_month(time), day_of_month(time) > days_in_month(time) - 2)",
        "0 or 1; the first 4 and last 2 days of a month",
        "Lakonishok & Smidt 1988",
    ),
    (
        "after_pause",
        "delta(time, 1) > lowest(delta(time, 1), 20) * 1.5",
        "0 or 1; after a night or weekend",
        "",
    ),
    ("session_start", "new_session", "0 or 1", ""),
    ("session_elapsed", "(time - at_reset(time, new_session)) / 86400", "[0, 1) days", ""),
    (
        "session_share",
        "min(cumulate(1, new_session) / before_reset(cumulate(1, new_session), new_session), 1)",
        "[0, 1]; bars so far over those of the session before",
        "",
    ),
    ("session_gap", "at_reset(overnight, new_session)", "log return", ""),
    ("session_return", "log(close) - at_reset(log(open), new_session)", "log return", ""),
    (
        "session_position",
        f"position(close, {_LOWEST}, highest_since(high, new_session))",
        "[0, 1]; within the session's range so far",
        "",
    ),
)

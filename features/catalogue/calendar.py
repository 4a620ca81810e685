"""Where the bar's close falls in the week and in the year, as points on a circle (UTC)."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "calendar",
    ("weekday_sin", "cycle_sin(day_of_week(time), 7)", "[-1, 1]", ""),
    ("weekday_cos", "cycle_cos(day_of_week(time), 7)", "[-1, 1]", ""),
    ("month_sin", "cycle_sin(month(time), 12)", "[-1, 1]", ""),
    ("month_cos", "cycle_cos(month(time), 12)", "[-1, 1]", ""),
)

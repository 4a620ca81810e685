"""Moving averages, as the distance of the close from one, of one from another, or of one from its past."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "average",
    *((f"sma_ratio_{n}", f"close / mean(close, {n}) - 1", "fraction", "") for n in (5, 10, 20, 50, 200)),
    *(
        (f"sma_cross_{fast}_{slow}", f"mean(close, {fast}) / mean(close, {slow}) - 1", "fraction", "")
        for fast, slow in ((5, 20), (10, 50), (50, 200))
    ),
    ("sma_slope_50", "roc(mean(close, 50), 5)", "fraction in 5 bars", ""),
    (
        "sma_order",
        "(sign(mean(close, 5) - mean(close, 20)) + sign(mean(close, 20) - mean(close, 50))"
        " + sign(mean(close, 50) - mean(close, 200))) / 3",
        "[-1, 1], 1 when 5 > 20 > 50 > 200",
        "",
    ),
    *((f"ema_ratio_{n}", f"close / ema(close, {n}) - 1", "fraction", "") for n in (20, 40)),
    ("wma_ratio_20", "close / wma(close, 20) - 1", "fraction", ""),
    ("dema_ratio_14", "close / dema(close, 14) - 1", "fraction", "Mulloy 1994"),
    ("tema_ratio_14", "close / tema(close, 14) - 1", "fraction", "Mulloy 1994"),
    ("hull_ratio_20", "close / hull_20 - 1", "fraction", "Hull 2005"),
    ("hull_slope_20", "roc(hull_20, 1)", "fraction per bar", "Hull 2005"),
    ("kama_ratio_10", "close / kama(close, 10) - 1", "fraction", "Kaufman 1995"),
)

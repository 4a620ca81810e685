"""Moving averages as ratios, slopes, and directional movement."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "trend",
    *((f"sma_ratio_{n}", f"close / mean(close, {n}) - 1", "fraction", "") for n in (5, 20, 50, 200)),
    ("sma_cross_10_50", "mean(close, 10) / mean(close, 50) - 1", "fraction", ""),
    ("sma_cross_50_200", "mean(close, 50) / mean(close, 200) - 1", "fraction", ""),
    ("ema_ratio_20", "close / ema(close, 20) - 1", "fraction", ""),
    ("wma_ratio_20", "close / wma(close, 20) - 1", "fraction", ""),
    ("slope_20", "slope(log(close), 20)", "log return per bar", ""),
    ("rsquare_20", "rsquare(log(close), 20)", "[0, 1]", "Qlib Alpha158 RSQR"),
    ("residual_20", "ratio(close - forecast(close, 20), std(close, 20), 0)", "standard deviations", ""),
    ("macd_12_26", "in_atr(macd(close, 12, 26), 14)", "ATR", "Appel 1979"),
    (
        "macd_histogram_12_26_9",
        "in_atr(macd(close, 12, 26) - ema(macd(close, 12, 26), 9), 14)",
        "ATR",
        "Appel 1979",
    ),
    ("di_spread_14", "plus_di(14) - minus_di(14)", "[-100, 100]", "Wilder 1978"),
    ("adx_9", "wilder(dx(9), 9)", "[0, 100]", "Wilder 1978"),
    (
        "aroon_25",
        "(bars_since_lowest(low, 26) - bars_since_highest(high, 26)) * 4",
        "[-100, 100]",
        "Chande 1995",
    ),
    (
        "efficiency_10",
        "ratio(abs(delta(close, 10)), sum(abs(delta(close, 1)), 10), 0)",
        "[0, 1]",
        "Kaufman 1995",
    ),
)

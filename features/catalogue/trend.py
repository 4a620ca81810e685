"""Direction and strength of a trend, and the stops that follow it."""

from features.catalogue.entry import Feature, group

_MACD = "macd(close, 12, 26)"
_SUPERTREND = "supertrend(median_price, atr(10), close, 3)"
_SAR = "sar(high, low, 0.02, 0.2)"
# plotted 26 bars ahead, so over today's bar stands what was known 26 bars ago
_CLOUD_A, _CLOUD_B = "delay(leading_a, 26)", "delay(midpoint(52), 26)"
_BEYOND_CLOUD = f"max(close - max({_CLOUD_A}, {_CLOUD_B}), 0) - max(min({_CLOUD_A}, {_CLOUD_B}) - close, 0)"
_HOSODA = "Hosoda 1969"

FEATURES: tuple[Feature, ...] = group(
    "trend",
    *((f"slope_{n}", f"slope(log(close), {n})", "log return per bar", "") for n in (20, 60)),
    *((f"rsquare_{n}", f"rsquare(log(close), {n})", "[0, 1]", "Qlib Alpha158 RSQR") for n in (20, 60)),
    ("residual_20", "ratio(close - forecast(close, 20), std(close, 20), 0)", "standard deviations", ""),
    ("macd_12_26", f"in_atr({_MACD}, 14)", "ATR", "Appel 1979"),
    ("macd_signal_12_26_9", f"in_atr(ema({_MACD}, 9), 14)", "ATR", "Appel 1979"),
    ("macd_histogram_12_26_9", f"in_atr({_MACD} - ema({_MACD}, 9), 14)", "ATR", "Appel 1979"),
    ("plus_di_14", "plus_di(14)", "[0, 100]", "Wilder 1978"),
    ("minus_di_14", "minus_di(14)", "[0, 100]", "Wilder 1978"),
    ("di_spread_14", "plus_di(14) - minus_di(14)", "[-100, 100]", "Wilder 1978"),
    ("adx_9", "wilder(dx(9), 9)", "[0, 100]", "Wilder 1978"),
    ("aroon_up_25", "100 - bars_since_highest(high, 26) * 4", "[0, 100]", "Chande 1995"),
    ("aroon_down_25", "100 - bars_since_lowest(low, 26) * 4", "[0, 100]", "Chande 1995"),
    (
        "aroon_25",
        "(bars_since_lowest(low, 26) - bars_since_highest(high, 26)) * 4",
        "[-100, 100]",
        "Chande 1995",
    ),
    ("efficiency_10", "efficiency(close, 10)", "[0, 1]", "Kaufman 1995"),
    ("ichimoku_conversion_9", "in_atr(close - midpoint(9), 14)", "ATR from tenkan-sen", _HOSODA),
    ("ichimoku_base_26", "in_atr(close - midpoint(26), 14)", "ATR from kijun-sen", _HOSODA),
    (
        "ichimoku_cloud_position",
        f"in_atr({_BEYOND_CLOUD}, 14)",
        "ATR beyond the cloud, 0 inside",
        _HOSODA,
    ),
    ("ichimoku_cloud_thickness", f"in_atr({_CLOUD_A} - {_CLOUD_B}, 14)", "ATR, > 0 rising", _HOSODA),
    ("ichimoku_cloud_ahead", "in_atr(leading_a - midpoint(52), 14)", "ATR, 26 bars ahead", _HOSODA),
    ("sar_distance", f"in_atr(close - {_SAR}, 14)", "ATR", "Wilder 1978"),
    ("sar_side", f"sign(close - {_SAR})", "[-1, 1], 1 long", "Wilder 1978"),
    ("supertrend_distance_10_3", f"ratio(close - {_SUPERTREND}, atr(10), 0)", "ATR", "Seban"),
    ("supertrend_side_10_3", f"sign(close - {_SUPERTREND})", "[-1, 1], 1 up", "Seban"),
    (
        "vortex_14",
        "ratio(sum(abs(high - delay(low, 1)) - abs(low - delay(high, 1)), 14), sum(true_range, 14), 0)",
        "VI+ less VI-",
        "Botes & Siepman 2010",
    ),
    (
        "mass_index_25",
        "sum(ratio(ema(high - low, 9), ema(ema(high - low, 9), 9), 1), 25)",
        "index, 25 when ranges neither widen nor narrow",
        "Dorsey 1992",
    ),
)

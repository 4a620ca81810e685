"""The shape of one bar and its neighbours."""

from features.catalogue.entry import Feature, group

_BODY = "ratio(close - open, high - low, 0)"
_UPPER = "ratio(high - max(open, close), high - low, 0)"
_LOWER = "ratio(min(open, close) - low, high - low, 0)"

FEATURES: tuple[Feature, ...] = group(
    "candle",
    ("body", _BODY, "[-1, 1]", ""),
    ("upper_shadow", _UPPER, "[0, 1]", ""),
    ("lower_shadow", _LOWER, "[0, 1]", ""),
    ("close_location", "close_location", "[-1, 1]", "Williams"),
    ("range_atr_14", "in_atr(high - low, 14)", "ATR", ""),
    ("gap_atr_14", "in_atr(open - delay(close, 1), 14)", "ATR", ""),
    ("inside_bar", "(delay(high, 1) >= high) * (low >= delay(low, 1))", "0 or 1", ""),
    ("outside_bar", "(high > delay(high, 1)) * (delay(low, 1) > low)", "0 or 1", ""),
    (
        "range_overlap",
        "ratio(max(min(high, delay(high, 1)) - max(low, delay(low, 1)), 0), "
        "max(high, delay(high, 1)) - min(low, delay(low, 1)), 1)",
        "[0, 1]; of what two bars cover, the share that both do",
        "",
    ),
    ("narrow_range_7", "lowest(high - low, 7) >= high - low", "0 or 1", "Crabel 1990"),
    ("body_ratio_20", "ratio(abs(close - open), mean(abs(close - open), 20), 1)", "ratio", ""),
    ("mean_body_5", f"mean({_BODY}, 5)", "[-1, 1]", ""),
    ("shadow_balance_10", f"mean({_LOWER} - {_UPPER}, 10)", "[-1, 1]", ""),
    (
        "streak_10",
        "sign(close - open) * run_length(sign(close - open), 10) / 10",
        "[-1, 1]; bars of one colour in a row",
        "",
    ),
)

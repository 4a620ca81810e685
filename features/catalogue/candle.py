"""The shape of one bar and its neighbour."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "candle",
    ("body", "ratio(close - open, high - low, 0)", "[-1, 1]", ""),
    ("upper_shadow", "ratio(high - max(open, close), high - low, 0)", "[0, 1]", ""),
    ("lower_shadow", "ratio(min(open, close) - low, high - low, 0)", "[0, 1]", ""),
    ("close_location", "close_location", "[-1, 1]", "Williams"),
    ("range_atr_14", "in_atr(high - low, 14)", "ATR", ""),
    ("gap_atr_14", "in_atr(open - delay(close, 1), 14)", "ATR", ""),
    ("inside_bar", "(delay(high, 1) >= high) * (low >= delay(low, 1))", "0 or 1", ""),
)

"""Distance to the prices that others watch: recent extremes, pivots, swings, and what broke them."""

from features.catalogue.entry import Feature, group

_SWING = "5, 60"
_LEG_TOP = f"max(swing_high({_SWING}), swing_low({_SWING}))"
_LEG_BOTTOM = f"min(swing_high({_SWING}), swing_low({_SWING}))"
_IN_LEG = f"min(max(position(close, {_LEG_BOTTOM}, {_LEG_TOP}), -1), 2)"
_GOLDEN = f"({_LEG_TOP} - {_LEG_BOTTOM}) * 0.6180339887498949"
_GOLDEN_LEVEL = f"where(swing_side({_SWING}) > 0, {_LEG_TOP} - {_GOLDEN}, {_LEG_BOTTOM} + {_GOLDEN})"

FEATURES: tuple[Feature, ...] = group(
    "levels",
    *((f"from_high_{n}", f"close / highest(high, {n}) - 1", "(-1, 0]", "") for n in (20, 250)),
    *((f"from_low_{n}", f"close / lowest(low, {n}) - 1", "[0, inf)", "") for n in (20, 250)),
    ("since_high_60", "bars_since_highest(high, 60) / 60", "[0, 1)", ""),
    ("since_low_60", "bars_since_lowest(low, 60) / 60", "[0, 1)", ""),
    (
        "pivot_distance",
        "in_atr(close - delay(typical, 1), 14)",
        "ATR from P of the bar before",
        "floor traders",
    ),
    (
        "resistance_distance",
        "in_atr(close - delay(typical * 2 - low, 1), 14)",
        "ATR from R1 of the bar before",
        "floor traders",
    ),
    (
        "support_distance",
        "in_atr(close - delay(typical * 2 - high, 1), 14)",
        "ATR from S1 of the bar before",
        "floor traders",
    ),
    (
        "pivot_distance_5",
        "in_atr(close - delay((highest(high, 5) + lowest(low, 5) + close) / 3, 1), 14)",
        "ATR from P of the 5 bars before",
        "floor traders",
    ),
    *(
        (
            f"breakout_{n}",
            f"(close > delay(highest(high, {n}), 1)) - (close < delay(lowest(low, {n}), 1))",
            "[-1, 1]",
            "Donchian",
        )
        for n in (20, 55)
    ),
    (
        "failed_breakout_20",
        "(low < delay(lowest(low, 20), 1)) * (close >= delay(lowest(low, 20), 1))"
        " - (high > delay(highest(high, 20), 1)) * (close <= delay(highest(high, 20), 1))",
        "[-1, 1], 1 after a failed break downwards",
        "Raschke & Connors 1995",
    ),
    ("swing_high_distance_5", f"in_atr(close - swing_high({_SWING}), 14)", "ATR", ""),
    ("swing_low_distance_5", f"in_atr(close - swing_low({_SWING}), 14)", "ATR", ""),
    ("swing_side_5", f"swing_side({_SWING})", "[-1, 1], 1 when the last swing was a high", ""),
    (
        "fibonacci_retracement_5",
        f"where(swing_side({_SWING}) > 0, 1 - {_IN_LEG}, {_IN_LEG})",
        "[-1, 2], share of the last leg that is taken back",
        "",
    ),
    (
        "fibonacci_618_distance_5",
        f"in_atr(close - {_GOLDEN_LEVEL}, 14)",
        "ATR from the 61.8 % retracement",
        "",
    ),
)

"""How much the price moves, and whether it moves more than it did."""

from features.catalogue.entry import Feature, group

_PARKINSON = "sqrt(mean(square(log(high / low)), {n}) * 0.36067376022224085)"
_GARMAN_KLASS = (
    "sqrt(max(mean(0.5 * log(high / low) ** 2 - 0.3862943611198906 * log(close / open) ** 2, {n}), 0))"
)
_ROGERS_SATCHELL = (
    "sqrt(max(mean(log(high / close) * log(high / open) + log(low / close) * log(low / open), {n}), 0))"
)

FEATURES: tuple[Feature, ...] = group(
    "volatility",
    ("atr_ratio_14", "atr(14) / close", "fraction of price", "Wilder 1978"),
    ("range_ratio_5_20", "ratio(mean(true_range, 5), mean(true_range, 20), 1)", "ratio", ""),
    ("range_zscore_20", "zscore(log(high / low), 20)", "standard deviations", ""),
    ("bollinger_position_20", "zscore(close, 20) / 4 + 0.5", "0 lower band, 1 upper band", "Bollinger 1992"),
    ("bollinger_width_20", "std(close, 20) * 4 / mean(close, 20)", "fraction of price", "Bollinger 1992"),
    (
        "keltner_position_20",
        "in_atr(close - ema(close, 20), 14) / 4 + 0.5",
        "0 lower, 1 upper channel",
        "Keltner",
    ),
    *(
        (
            f"donchian_position_{n}",
            f"position(close, lowest(low, {n}), highest(high, {n}))",
            "[0, 1]",
            "Donchian",
        )
        for n in (55,)
    ),
    ("donchian_width_20", "log(highest(high, 20) / lowest(low, 20))", "log range", "Donchian"),
    *((f"realised_{n}", f"std(returns, {n})", "log return per bar", "") for n in (5, 20, 60)),
    ("parkinson_20", _PARKINSON.format(n=20), "log return per bar", "Parkinson 1980"),
    ("garman_klass_20", _GARMAN_KLASS.format(n=20), "log return per bar", "Garman & Klass 1980"),
    ("rogers_satchell_20", _ROGERS_SATCHELL.format(n=20), "log return per bar", "Rogers & Satchell 1991"),
    ("volatility_ratio_5_20", "ratio(std(returns, 5), std(returns, 20), 1)", "ratio", ""),
    ("volatility_zscore_20_60", "zscore(std(returns, 20), 60)", "standard deviations", ""),
    (
        "volatility_of_volatility_10_20",
        "ratio(std(std(returns, 10), 20), mean(std(returns, 10), 20), 0)",
        "ratio",
        "",
    ),
    (
        "downside_share_20",
        "ratio(mean(square(min(returns, 0)), 20), mean(square(returns), 20), 0.5)",
        "[0, 1]",
        "Sortino 1991",
    ),
)

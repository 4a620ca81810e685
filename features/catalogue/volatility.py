"""How much the price moves, and whether it moves more than it did."""

from features.catalogue.entry import Feature, group

_PARKINSON = "sqrt(mean(square(log_range), 20) * 0.36067376022224085)"
_GARMAN_KLASS = "sqrt(max(mean(0.5 * square(log_range) - 0.3862943611198906 * square(intraday), 20), 0))"
_ROGERS_SATCHELL = (
    "mean((log(high) - log(close)) * (log(high) - log(open))"
    " + (log(low) - log(close)) * (log(low) - log(open)), 20)"
)
# the weight that makes the estimator's variance least: 0.34 / (1.34 + (n + 1) / (n - 1)) at n = 20
_YANG_ZHANG = 0.34 / (1.34 + 21 / 19)

FEATURES: tuple[Feature, ...] = group(
    "volatility",
    ("atr_ratio_14", "atr(14) / close", "fraction of price", "Wilder 1978"),
    ("range_ratio_5_20", "ratio(mean(true_range, 5), mean(true_range, 20), 1)", "ratio", ""),
    ("range_zscore_20", "zscore(log_range, 20)", "standard deviations", ""),
    ("bollinger_position_20", "zscore(close, 20) / 4 + 0.5", "0 lower band, 1 upper band", "Bollinger 1992"),
    ("bollinger_width_20", "std(close, 20) * 4 / mean(close, 20)", "fraction of price", "Bollinger 1992"),
    (
        "keltner_position_20",
        "in_atr(close - ema(close, 20), 14) / 4 + 0.5",
        "0 lower, 1 upper channel",
        "Keltner",
    ),
    (
        "squeeze_20",
        "ratio(std(close, 20) * 2, mean(true_range, 20) * 1.5, 1)",
        "ratio, < 1 when the Bollinger bands lie inside the Keltner channel",
        "Carter 2005",
    ),
    ("donchian_position_55", "position(close, lowest(low, 55), highest(high, 55))", "[0, 1]", "Donchian"),
    ("donchian_width_20", "log(highest(high, 20) / lowest(low, 20))", "log range", "Donchian"),
    *((f"realised_{n}", f"std(returns, {n})", "log return per bar", "") for n in (5, 20, 60)),
    (
        "ewma_volatility_32",
        "sqrt(ema(square(returns), 32))",
        "log return per bar",
        "RiskMetrics 1996, decay 0.94",
    ),
    ("parkinson_20", _PARKINSON, "log return per bar", "Parkinson 1980"),
    ("garman_klass_20", _GARMAN_KLASS, "log return per bar", "Garman & Klass 1980"),
    (
        "rogers_satchell_20",
        f"sqrt(max({_ROGERS_SATCHELL}, 0))",
        "log return per bar",
        "Rogers & Satchell 1991",
    ),
    (
        "yang_zhang_20",
        f"sqrt(max(square(std(overnight, 20)) + {_YANG_ZHANG} * square(std(intraday, 20))"
        f" + {1 - _YANG_ZHANG} * {_ROGERS_SATCHELL}, 0))",
        "log return per bar",
        "Yang & Zhang 2000",
    ),
    ("semi_deviation_20", "sqrt(mean(square(min(returns, 0)), 20))", "log return per bar", "Markowitz 1959"),
    *(
        (
            f"volatility_ratio_{fast}_{slow}",
            f"ratio(std(returns, {fast}), std(returns, {slow}), 1)",
            "ratio",
            "",
        )
        for fast, slow in ((5, 20), (20, 60))
    ),
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
    (
        "overnight_share_20",
        "ratio(mean(square(overnight), 20), mean(square(overnight) + square(intraday), 20), 0.5)",
        "[0, 1]",
        "",
    ),
    ("ulcer_14", "sqrt(mean(square(close / highest(close, 14) - 1), 14))", "[0, 1]", "Martin 1987"),
    (
        "choppiness_14",
        "log(ratio(sum(true_range, 14), (highest(high, 14) - lowest(low, 14)) * 3.7416573867739413, 1))"
        " * 37.89231816899512 + 50",
        "index, 0 trending, 100 choppy",
        "Dreiss 1993",
    ),
    (
        "chaikin_volatility_10",
        "ratio(ema(high - low, 10) - delay(ema(high - low, 10), 10),"
        " ema(high - low, 10) + delay(ema(high - low, 10), 10), 0)",
        "[-1, 1]",
        "Chaikin",
    ),
)

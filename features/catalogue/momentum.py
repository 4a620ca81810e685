"""Speed of the price. A flat price reads as the middle of an oscillator's range."""

from features.catalogue.entry import Feature, group

_AWESOME = "(mean(median_price, 5) - mean(median_price, 34))"
_RSI = "rsi(close, 14)"
_RSI_LOW = f"lowest({_RSI}, 14)"
# a flat price holds the RSI where it was, but for rounding: that is not to be magnified
_RSI_RANGE = f"(highest({_RSI}, 14) - {_RSI_LOW})"

FEATURES: tuple[Feature, ...] = group(
    "momentum",
    *((f"rsi_{n}", f"rsi(close, {n})", "[0, 100]", "Wilder 1978") for n in (7, 14, 21)),
    ("stochastic_14", "stochastic(14)", "[0, 100]", "Lane 1957"),
    ("stochastic_d_14_3", "mean(stochastic(14), 3)", "[0, 100]", "Lane 1957"),
    ("stochastic_slow_14_3_3", "mean(mean(stochastic(14), 3), 3)", "[0, 100]", "Lane 1957"),
    (
        "stochastic_rsi_14",
        f"where({_RSI_RANGE} > 0.001, ({_RSI} - {_RSI_LOW}) / {_RSI_RANGE}, 0.5) * 100",
        "[0, 100]",
        "Chande & Kroll 1994",
    ),
    ("williams_50", "stochastic(50) - 100", "[-100, 0]", "Williams"),
    ("cci_20", "cci(20)", "index", "Lambert 1980"),
    (
        "cmo_14",
        "ratio(delta(close, 14), sum(abs(delta(close, 1)), 14), 0) * 100",
        "[-100, 100]",
        "Chande 1994",
    ),
    (
        "ultimate_7_14_28",
        "(ultimate(7) * 4 + ultimate(14) * 2 + ultimate(28)) * (100 / 7)",
        "[0, 100]",
        "Williams 1985",
    ),
    ("roc_12", "roc(close, 12)", "fraction", ""),
    (
        "tsi_25_13",
        "ratio(ema(ema(delta(close, 1), 25), 13), ema(ema(abs(delta(close, 1)), 25), 13), 0) * 100",
        "[-100, 100]",
        "Blau 1991",
    ),
    ("awesome_5_34", f"in_atr({_AWESOME}, 14)", "ATR", "Williams 1998"),
    ("accelerator_5_34_5", f"in_atr({_AWESOME} - mean({_AWESOME}, 5), 14)", "ATR", "Williams 1998"),
    ("trix_14", "roc(ema(ema(ema(close, 14), 14), 14), 1)", "fraction per bar", "Hutson 1983"),
    ("ppo_12_26", "macd(close, 12, 26) / ema(close, 26)", "fraction", "Appel"),
    ("coppock_14_11_10", "wma(roc(close, 14) + roc(close, 11), 10)", "fraction", "Coppock 1962"),
    ("bull_power_13", "in_atr(high - ema(close, 13), 14)", "ATR", "Elder 1993"),
    ("bear_power_13", "in_atr(low - ema(close, 13), 14)", "ATR", "Elder 1993"),
    (
        "intraday_momentum_14",
        "ratio(sum(max(close - open, 0), 14), sum(abs(close - open), 14), 0.5) * 100",
        "[0, 100]",
        "Chande & Kroll 1994",
    ),
    *(
        (f"momentum_sharpe_{n}", f"ratio(log_return({n}) / {n}, std(returns, {n}), 0)", "Sharpe per bar", "")
        for n in (20, 60)
    ),
    ("up_share_20", "mean(sign(returns), 20) / 2 + 0.5", "[0, 1]", ""),
)

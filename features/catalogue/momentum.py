"""Bounded oscillators. A flat price reads as the middle of their range."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "momentum",
    *((f"rsi_{n}", f"rsi(close, {n})", "[0, 100]", "Wilder 1978") for n in (7, 14)),
    ("stochastic_14", "stochastic(14)", "[0, 100]", "Lane 1957"),
    ("stochastic_d_14_3", "mean(stochastic(14), 3)", "[0, 100]", "Lane 1957"),
    (
        "williams_50",
        "position(close, lowest(low, 50), highest(high, 50)) * 100 - 100",
        "[-100, 0]",
        "Williams",
    ),
    ("cci_20", "cci(20)", "index", "Lambert 1980"),
    ("cmo_14", "ratio(sum(gain - loss, 14), sum(gain + loss, 14), 0) * 100", "[-100, 100]", "Chande 1994"),
    (
        "ultimate_7_14_28",
        "(ultimate(7) * 4 + ultimate(14) * 2 + ultimate(28)) * (100 / 7)",
        "[0, 100]",
        "Williams 1985",
    ),
    ("momentum_sharpe_60", "ratio(mean(returns, 60), std(returns, 60), 0)", "Sharpe per bar", ""),
    ("up_share_20", "mean(returns > 0, 20)", "[0, 1]", ""),
)

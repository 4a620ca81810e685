"""In what state the market is, and for how long: volatile or calm, trending or not, above its average."""

from features.catalogue.entry import Feature, group

_VOLATILITY_RANK = "rank(std(returns, 20), 120)"

FEATURES: tuple[Feature, ...] = group(
    "regime",
    ("volatility_rank_120", _VOLATILITY_RANK, "(0, 1]", ""),
    ("calm", f"0.25 >= {_VOLATILITY_RANK}", "0 or 1; volatility in its lowest quarter of 120 bars", ""),
    ("stress", f"{_VOLATILITY_RANK} > 0.75", "0 or 1; volatility in its highest quarter of 120 bars", ""),
    ("volatility_ratio_20_120", "ratio(std(returns, 20), std(returns, 120), 1)", "ratio", ""),
    (
        "turbulence_5_120",
        "ratio(mean(square(returns), 5), mean(square(returns), 120), 1)",
        "ratio",
        "after Kritzman & Li 2010",
    ),
    (
        "volatility_age_60",
        "run_length(std(returns, 20) > mean(std(returns, 20), 60), 60) / 60",
        "(0, 1]; bars since volatility crossed its mean",
        "",
    ),
    (
        "net_efficiency_60",
        "ratio(delta(close, 60), sum(abs(delta(close, 1)), 60), 0)",
        "[-1, 1]",
        "Kaufman 1995",
    ),
    ("trending", "wilder(dx(9), 9) > 25", "0 or 1", "Wilder 1978"),
    ("trend_state", "sign(mean(close, 50) - mean(close, 200))", "-1, 0 or 1", ""),
    ("above_average_200", "close > mean(close, 200)", "0 or 1", ""),
    ("above_share_60", "mean(close > mean(close, 200), 60)", "[0, 1]", ""),
    (
        "average_age_60",
        "run_length(close > mean(close, 200), 60) / 60",
        "(0, 1]; bars since the price crossed its average",
        "",
    ),
    ("bear_market", "0.8 >= close / highest(high, 250)", "0 or 1; a fifth below the highest of 250 bars", ""),
)

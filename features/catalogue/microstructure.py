"""Spread, price impact and order flow, as far as bars of prices and volume tell."""

from features.catalogue.entry import Feature, group

# beta and the root of gamma of the paper, over two bars
_BETA = "square(log_range) + delay(square(log_range), 1)"
_ROOT_GAMMA = "(max(log(high), delay(log(high), 1)) - min(log(low), delay(log(low), 1)))"
# 2 (e^a - 1) / (e^a + 1) = 2 tanh(a / 2), a = (1 + sqrt 2) (sqrt beta - sqrt gamma)
_SPREAD = f"tanh((sqrt({_BETA}) - {_ROOT_GAMMA}) * 1.2071067811865475)"
_CORWIN_SCHULTZ = f"mean(max({_SPREAD}, 0), 20) * 2"
_MIDDLE = "(log(high) + log(low)) / 2"
_ABDI_RANALDO = f"(delay(log(close), 1) - delay({_MIDDLE}, 1)) * (delay(log(close), 1) - {_MIDDLE})"

FEATURES: tuple[Feature, ...] = group(
    "microstructure",
    ("corwin_schultz_20", _CORWIN_SCHULTZ, "[0, 2] fraction of price", "Corwin & Schultz 2012"),
    (
        "spread_to_volatility_20",
        f"ratio({_CORWIN_SCHULTZ}, std(returns, 20), 0)",
        "standard deviations of a return",
        "Corwin & Schultz 2012",
    ),
    (
        "abdi_ranaldo_20",
        f"sqrt(max(mean({_ABDI_RANALDO}, 20), 0)) * 2",
        "fraction of price",
        "Abdi & Ranaldo 2017",
    ),
    (
        "roll_spread_60",
        "sqrt(max(-cov(returns, delay(returns, 1), 60), 0)) * 2",
        "fraction of price",
        "Roll 1984",
    ),
    (
        "illiquidity_ratio_5_60",
        "ratio(mean(illiquidity, 5), mean(illiquidity, 60), 1)",
        "ratio",
        "Amihud 2002",
    ),
    (
        "kyle_lambda_60",
        "beta(returns, signed_volume, 60) * mean(volume, 60)",
        "log return per mean volume bought",
        "Kyle 1985",
    ),
    (
        "flow_reversal_60",
        "ratio(cov(returns, delay(signed_volume, 1), 60), square(delay(std(signed_volume, 60), 1)), 0)"
        " * mean(volume, 60)",
        "log return per mean volume bought a bar before",
        "after Pastor & Stambaugh 2003",
    ),
    ("bulk_imbalance", "bulk_imbalance", "[-1, 1]", "Easley, Lopez de Prado & O'Hara 2012"),
    (
        "bulk_imbalance_20",
        "flow(bulk_imbalance * volume, 20)",
        "[-1, 1]",
        "Easley, Lopez de Prado & O'Hara 2012",
    ),
    (
        "vpin_50",
        "flow(abs(bulk_imbalance) * volume, 50)",
        "[0, 1]; bars for volume buckets",
        "Easley, Lopez de Prado & O'Hara 2012",
    ),
    (
        "flow_persistence_60",
        "memory(bulk_imbalance * volume, 1, 60)",
        "[-1, 1]",
        "",
    ),
    ("body_imbalance_20", "flow(ratio(close - open, high - low, 0) * volume, 20)", "[-1, 1]", ""),
    ("zero_return_share_20", "1 - mean(abs(sign(returns)), 20)", "[0, 1]", "Lesmond et al. 1999"),
)

"""Volume against its own past and against the price. No volume at all reads as ordinary volume.

Lines that are usually summed over all history (on-balance volume, accumulation/distribution, volume-price
trend) are read by their place within a window, which does not depend on where history begins.
"""

from features.catalogue.entry import Feature, group

_PER_RANGE = "mean(volume, 20) * atr(14)"
_TWIGGS = "ratio(close - true_low - (true_high - close), true_range, 0) * volume"

FEATURES: tuple[Feature, ...] = group(
    "volume",
    ("volume_ratio_20", "ratio(volume, mean(volume, 20), 1)", "ratio", ""),
    ("volume_ratio_5_20", "ratio(mean(volume, 5), mean(volume, 20), 1)", "ratio", ""),
    *((f"volume_zscore_{n}", f"zscore(volume, {n})", "standard deviations", "") for n in (20, 60)),
    ("volume_rank_60", "rank(volume, 60)", "(0, 1]", ""),
    ("volume_slope_20", "ratio(slope(volume, 20), mean(volume, 20), 0)", "mean volumes per bar", ""),
    ("volume_variation_20", "ratio(std(volume, 20), mean(volume, 20), 0)", "ratio", ""),
    ("pvo_12_26", "ratio(macd(volume, 12, 26), ema(volume, 26), 0)", "fraction", "Appel's PPO of volume"),
    ("obv_slope_20", "flow(signed_volume, 20)", "[-1, 1]", "Granville 1963"),
    *(
        (f"obv_zscore_{n}", f"cumulative_zscore(signed_volume, {n})", "standard deviations", "Granville 1963")
        for n in (20, 60)
    ),
    ("ad_zscore_20", "cumulative_zscore(money_flow_volume, 20)", "standard deviations", "Chaikin"),
    (
        "vpt_zscore_20",
        "cumulative_zscore(roc(close, 1) * volume, 20)",
        "standard deviations",
        "volume-price trend",
    ),
    (
        "chaikin_oscillator_3_10",
        # the difference of two averages of a running sum, by the averages of what is summed
        "ratio(ema(money_flow_volume, 10) * 4.5 - ema(money_flow_volume, 3), mean(volume, 20), 0)",
        "mean volumes",
        "Chaikin",
    ),
    (
        "mfi_14",
        "ratio(sum(max(money_flow, 0), 14), sum(abs(money_flow), 14), 0.5) * 100",
        "[0, 100]",
        "Quong & Soudack 1989",
    ),
    ("cmf_20", "flow(money_flow_volume, 20)", "[-1, 1]", "Chaikin"),
    ("twiggs_21", f"ratio(wilder({_TWIGGS}, 21), wilder(volume, 21), 0)", "[-1, 1]", "Twiggs 2002"),
    *(
        (
            f"force_index_{n}",
            f"ratio(ema(delta(close, 1) * volume, {n}), {_PER_RANGE}, 0)",
            "ATR times mean volume",
            "Elder 1993",
        )
        for n in (2, 13)
    ),
    (
        "ease_of_movement_14",
        "mean(ratio(delta(median_price, 1) * (high - low) * mean(volume, 20), volume * square(atr(14)), 0),"
        " 14)",
        "squared ATR per mean volume",
        "Arms 1996",
    ),
    (
        "klinger_21_34",
        "ratio(macd(sign(delta(typical, 1)) * volume, 21, 34), mean(volume, 20), 0)",
        "mean volumes",
        "Klinger 1997, without its cumulative measure",
    ),
    (
        "nvi_return_20",
        "sum(where(delay(volume, 1) > volume, returns, 0), 20)",
        "log return on falling volume",
        "Fosback 1976, negative volume index",
    ),
    ("vwap_distance_20", "from_vwap(sum(typical * volume, 20), sum(volume, 20))", "fraction", ""),
    (
        "vwap_distance_session",
        "from_vwap(cumulate(typical * volume, new_session), cumulate(volume, new_session))",
        "fraction; a session is a day, UTC",
        "",
    ),
    (
        "vwap_distance_month",
        "from_vwap(cumulate(typical * volume, new_month), cumulate(volume, new_month))",
        "fraction; from the month's first bar",
        "",
    ),
    *(
        (
            f"vwap_distance_{place}_60",
            f"from_vwap(sum_since_highest(typical * volume, {key}, 60),"
            f" sum_since_highest(volume, {key}, 60))",
            f"fraction; from the {place} of the last 60 bars",
            "Shannon 2023, anchored VWAP",
        )
        for place, key in (("high", "high"), ("low", "-low"))
    ),
    (
        "illiquidity_ratio_20_60",
        "ratio(mean(illiquidity, 20), mean(illiquidity, 60), 1)",
        "ratio",
        "Amihud 2002",
    ),
    (
        "volume_move_corr_20",
        "corr(abs(returns), volume, 20)",
        "[-1, 1]; NaN if either is constant",
        "Karpoff 1987",
    ),
    (
        "return_volume_corr_20",
        "ratio(cov(returns, volume, 20), std(returns, 20) * std(volume, 20), 0)",
        "[-1, 1]",
        "",
    ),
)

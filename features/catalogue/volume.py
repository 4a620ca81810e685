"""Volume against its own past and against the price. No volume at all reads as ordinary volume."""

from features.catalogue.entry import Feature, group

_ILLIQUIDITY = "ratio(abs(returns), close * volume, 0)"

FEATURES: tuple[Feature, ...] = group(
    "volume",
    ("volume_ratio_20", "ratio(volume, mean(volume, 20), 1)", "ratio", ""),
    ("volume_ratio_5_20", "ratio(mean(volume, 5), mean(volume, 20), 1)", "ratio", ""),
    ("volume_zscore_60", "zscore(volume, 60)", "standard deviations", ""),
    ("volume_rank_60", "rank(volume, 60)", "(0, 1]", ""),
    ("obv_slope_20", "ratio(sum(signed_volume, 20), sum(volume, 20), 0)", "[-1, 1]", "Granville 1963"),
    (
        "mfi_14",
        "ratio(sum(max(money_flow, 0), 14), sum(abs(money_flow), 14), 0.5) * 100",
        "[0, 100]",
        "Quong & Soudack 1989",
    ),
    ("cmf_20", "ratio(sum(close_location * volume, 20), sum(volume, 20), 0)", "[-1, 1]", "Chaikin"),
    ("vwap_distance_20", "ratio(close * sum(volume, 20), sum(typical * volume, 20), 1) - 1", "fraction", ""),
    (
        "illiquidity_ratio_20_60",
        f"ratio(mean({_ILLIQUIDITY}, 20), mean({_ILLIQUIDITY}, 60), 1)",
        "ratio",
        "Amihud 2002",
    ),
    (
        "volume_move_corr_20",
        "corr(abs(returns), volume, 20)",
        "[-1, 1]; NaN if either is constant",
        "Karpoff 1987",
    ),
)

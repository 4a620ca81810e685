"""Shape and memory of the return distribution; NaN where all returns of the window are equal."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "statistics",
    *((f"skew_{n}", f"skew(returns, {n})", "G1", "") for n in (20, 60)),
    ("kurtosis_60", "kurt(returns, 60)", "G2, 0 for a normal", ""),
    ("autocorrelation_1_60", "autocorrelation(returns, 1, 60)", "[-1, 1]", ""),
    ("autocorrelation_5_60", "autocorrelation(returns, 5, 60)", "[-1, 1]", ""),
    (
        "variance_ratio_5_60",
        "ratio(square(std(log(close / delay(close, 5)), 60)), 5 * square(std(returns, 60)), 1)",
        "ratio, 1 for a random walk",
        "Lo & MacKinlay 1988",
    ),
)

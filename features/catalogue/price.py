"""Returns over several horizons, and where the price stands within its recent range."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "price",
    *((f"return_{n}", f"log(close / delay(close, {n}))", "log return", "") for n in (1, 2, 5, 10, 20, 60)),
    ("gap", "log(open / delay(close, 1))", "log return", ""),
    ("intraday_return", "log(close / open)", "log return", ""),
    ("zscore_close_50", "zscore(close, 50)", "standard deviations", ""),
    ("zscore_return_20", "zscore(returns, 20)", "standard deviations", ""),
    ("rank_close_60", "rank(close, 60)", "(0, 1]", "Qlib Alpha158 RANK"),
    *((f"from_high_{n}", f"close / highest(high, {n}) - 1", "(-1, 0]", "") for n in (20, 250)),
    *((f"from_low_{n}", f"close / lowest(low, {n}) - 1", "[0, inf)", "") for n in (20, 250)),
    ("since_high_60", "bars_since_highest(high, 60) / 60", "[0, 1)", ""),
    ("since_low_60", "bars_since_lowest(low, 60) / 60", "[0, 1)", ""),
)

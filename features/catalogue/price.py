"""Returns over several horizons, and where the close stands among the recent ones."""

from features.catalogue.entry import Feature, group

FEATURES: tuple[Feature, ...] = group(
    "price",
    *((f"return_{n}", f"log_return({n})", "log return", "") for n in (1, 2, 3, 5, 10, 20, 60, 120)),
    (
        "momentum_250_20",
        "delay(log(close), 20) - delay(log(close), 250)",
        "log return",
        "Jegadeesh & Titman 1993",
    ),
    ("gap", "overnight", "log return", ""),
    ("intraday_return", "intraday", "log return", ""),
    ("overnight_return_20", "sum(overnight, 20)", "log return", "Lou, Polk & Skouras 2019"),
    ("zscore_close_50", "zscore(close, 50)", "standard deviations", ""),
    ("zscore_return_20", "zscore(returns, 20)", "standard deviations", ""),
    ("rank_close_20", "rank(close, 20)", "(0, 1]", "Qlib Alpha158 RANK"),
    ("rank_close_60", "rank(close, 60)", "(0, 1]", "Qlib Alpha158 RANK"),
    *(
        (f"range_position_{n}", f"position(close, lowest(low, {n}), highest(high, {n}))", "[0, 1]", "")
        for n in (20, 250)
    ),
)

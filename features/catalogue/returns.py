"""Returns over several horizons and where the price stands within its recent range."""

from features.catalogue.entry import Feature

_LAGS = (1, 2, 3, 5, 10, 20, 60)

FEATURES = (
    *(
        Feature(f"return_{n}", f"log(close / delay(close, {n}))", "returns", "log return", "standard")
        for n in _LAGS
    ),
    Feature("zscore_close_20", "zscore(close, 20)", "returns", "standard deviations", "standard"),
    Feature("rsi_14", "rsi(close, 14)", "momentum", "[0, 100]", "Wilder 1978"),
)

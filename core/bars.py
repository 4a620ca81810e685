"""The canonical frame of bars."""

import numpy as np
import pandas as pd

from core.errors import DataError

COLUMNS = ("open", "high", "low", "close", "volume")


def check_bars(bars: pd.DataFrame) -> None:
    """Raise DataError unless `bars` is canonical.

    Canonical: a UTC DatetimeIndex named "timestamp" (the bar's CLOSE), strictly increasing; float64
    columns open, high, low, close, volume in this order; prices finite and positive; volume finite, >= 0.
    """
    index = bars.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC" or index.name != "timestamp":
        raise DataError(
            f"index {index.name!r} of {index.dtype}: bars need a UTC DatetimeIndex named 'timestamp'"
        )
    if tuple(bars.columns) != COLUMNS:
        raise DataError(f"columns {list(bars.columns)}: bars need {list(COLUMNS)} in this order")
    wrong = [f"{name} is {dtype}" for name, dtype in bars.dtypes.items() if dtype != np.float64]
    if wrong:
        raise DataError(f"{', '.join(wrong)}: bar columns are float64")
    if not index.is_monotonic_increasing or not index.is_unique:
        row = int(np.argmax(np.diff(index.asi8) <= 0)) + 1
        raise DataError(
            f"row {row} at {index[row]}: bar times must be strictly increasing; validate the bars first"
        )
    values = bars.to_numpy()
    bad = ~np.isfinite(values).all(axis=1) | (values[:, :4] <= 0).any(axis=1) | (values[:, 4] < 0)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"row {row} at {index[row]}: {bars.iloc[row].to_dict()} must be finite with positive prices"
        )

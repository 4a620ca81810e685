"""Longer bars from shorter ones, without looking ahead."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.bars import check_bars
from core.errors import DataError
from core.timeframe import Timeframe, infer

_SECOND = 1_000_000_000


def resample(bars: pd.DataFrame, to: Timeframe, source: Timeframe | None = None) -> pd.DataFrame:
    """Bars of timeframe `to`, stamped at their close, from canonical bars of a shorter timeframe.

    Buckets are (close - to, close], aligned to the UTC epoch (weeks to Monday 00:00 UTC). Closed buckets
    only: the last one is left out until a bar at or after its close exists, the first one when the data
    begin inside it. Buckets without any bar do not appear. Open is the first, close the last, high and low
    the extremes, volume the sum. `source` is inferred from the spacing when not given. DataError unless `to`
    is a whole multiple of it.
    """
    check_bars(bars)
    epoch = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    base = source or infer(epoch // _SECOND)
    if to.seconds % base.seconds:
        raise DataError(f"{base} bars cannot form {to} bars: choose a whole multiple of {base}")
    if to == base or bars.empty:
        return bars.copy()
    closes = to.ends(epoch, _SECOND)
    whole = closes <= epoch[-1]
    if epoch[0] - base.seconds * _SECOND > closes[0] - to.seconds * _SECOND:
        whole &= closes != closes[0]
    return _aggregate(bars[whole], closes[whole])


def _aggregate(bars: pd.DataFrame, closes: NDArray[np.int64]) -> pd.DataFrame:
    if bars.empty:
        return bars.copy()
    first = np.flatnonzero(np.diff(closes, prepend=closes[0] - 1))  # [buckets]: row that begins each
    last = np.append(first[1:], len(closes)) - 1
    values = {name: bars[name].to_numpy() for name in bars.columns}
    return pd.DataFrame(
        {
            "open": values["open"][first],
            "high": np.maximum.reduceat(values["high"], first),
            "low": np.minimum.reduceat(values["low"], first),
            "close": values["close"][last],
            "volume": np.add.reduceat(values["volume"], first),
        },
        index=pd.DatetimeIndex(closes[first], tz="UTC", name="timestamp"),
    )

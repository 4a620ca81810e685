"""Columns derived from bars for the quality rules to look at. Vectorised; nothing here judges."""

from bisect import bisect_right

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.calendar import Calendar
from core.timeframe import Timeframe


def in_time_order(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask, shape [n], of the most rows that can stay so that times never decrease.

    One stray row costs one row, wherever it points: a mistyped year does not condemn the rows after it.
    Where two choices are equally large the row that arrives late is left out: of a swapped pair, the second.
    """
    keep = np.ones(times.size, dtype=bool)
    if times.size < 2 or (times[1:] >= times[:-1]).all():
        return keep
    # Longest non-decreasing subsequence by patience sorting, walked from the end so that ties drop late rows.
    tops: list[int] = []
    top_rows: list[int] = []
    previous = np.full(times.size, -1)
    for row in range(times.size - 1, -1, -1):
        value = -int(times[row])
        pile = bisect_right(tops, value)
        if pile:
            previous[row] = top_rows[pile - 1]
        if pile == len(tops):
            tops.append(value)
            top_rows.append(row)
        else:
            tops[pile], top_rows[pile] = value, row
    keep[:] = False
    row = top_rows[-1]
    while row >= 0:
        keep[row] = True
        row = int(previous[row])
    return keep


def contested(rows: pd.DataFrame, ordered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask, shape [n], of rows that cannot stay because another row has the same timestamp.

    Of identical rows the first in time order stays. Rows that disagree all go: none can be believed.
    """
    shared = rows["timestamp"].duplicated(keep=False).to_numpy() & rows["timestamp"].notna().to_numpy()
    out = np.zeros(len(rows), dtype=bool)
    if not shared.any():
        return out
    part = rows[shared].assign(late=~ordered[shared])
    part = part.sort_values("late", kind="stable").drop(columns="late")
    versions = part.drop_duplicates()["timestamp"]
    disagree = part["timestamp"].isin(versions[versions.duplicated()]).to_numpy()
    out[part.index.to_numpy()] = disagree | part.duplicated().to_numpy()
    return out


def row_measures(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` (RangeIndex, column timestamp) with bool columns in_order and unique."""
    times = rows["timestamp"]
    known = times.notna().to_numpy()
    ordered = np.ones(len(rows), dtype=bool)
    ordered[known] = in_time_order(times[known].to_numpy("datetime64[ns]").astype("int64"))
    return rows.assign(in_order=ordered, unique=~contested(rows, ordered))


def expected_bars(index: pd.DatetimeIndex, timeframe: Timeframe, calendar: Calendar) -> pd.DatetimeIndex:
    """Bars the calendar expects from the first to the last time of `index`."""
    if index.empty:
        return index
    return pd.DatetimeIndex(calendar.expected(index[0], index[-1], timeframe)).as_unit("ns")


def series_measures(clean: pd.DataFrame, expected: pd.DatetimeIndex) -> pd.DataFrame:
    """Derived columns, index 0..n-1, of canonical bars.

    gap: expected bars missing just before this one. on_calendar: the calendar expects this bar (true where
    it expects none of this timeframe at all). flat_run: length of the run of bars without range at one price
    that this bar is in. log_return: log of close over the previous close; NaN first.
    """
    index = pd.DatetimeIndex(clean.index)
    gap = np.bincount(index.searchsorted(expected.difference(index)), minlength=len(clean))
    close = clean["close"].to_numpy()
    return pd.DataFrame(
        {
            "timestamp": index,
            "gap": gap.astype("int64"),
            "on_calendar": index.isin(expected) if len(expected) else np.ones(len(clean), dtype=bool),
            "flat_run": _flat_runs(clean),
            "log_return": np.diff(np.log(close), prepend=np.nan),
        }
    )


def _flat_runs(clean: pd.DataFrame) -> NDArray[np.int64]:
    close = clean["close"].to_numpy()
    flat = (clean["high"] == clean["low"]).to_numpy()
    begins = np.ones(close.size, dtype=bool)
    begins[1:] = ~(flat[1:] & flat[:-1] & (close[1:] == close[:-1]))
    run = np.cumsum(begins) - 1
    return np.asarray(np.where(flat, np.bincount(run)[run], 0), dtype=np.int64) if close.size else run

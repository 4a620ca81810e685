"""Resampling against a naive loop; no bar before its bucket is over."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.bars import check_bars
from core.errors import DataError
from core.timeframe import Timeframe
from data.resample import resample

Make = Callable[..., pd.DataFrame]


def naive(bars: pd.DataFrame, to: int, source: int, offset: int) -> list[list[float]]:
    """One bar at a time, as a live feed would."""
    out: list[list[float]] = []
    bucket: list[float] | None = None
    complete = True
    for n, (time, row) in enumerate(bars.iterrows()):
        second = int(time.timestamp())
        close = second + (offset - second) % to
        if bucket is not None and close != bucket[0]:
            out += [bucket] if complete else []
            bucket, complete = None, True
        if bucket is None:
            complete = n > 0 or second - source <= close - to
            bucket = [close, row.open, row.high, row.low, row.close, row.volume]
        else:
            bucket[2], bucket[3] = max(bucket[2], row.high), min(bucket[3], row.low)
            bucket[4], bucket[5] = row.close, bucket[5] + row.volume
    if bucket is not None and complete and bars.index[-1].timestamp() >= bucket[0]:
        out.append(bucket)
    return out


@settings(max_examples=60, deadline=None)
@given(
    keep=st.lists(st.booleans(), min_size=200, max_size=200).filter(lambda k: sum(k) > 2),
    start=st.integers(0, 300),
    to=st.sampled_from([300, 900, 3600]),
)
def test_equals_the_naive_loop(make_bars: Make, keep: list[bool], start: int, to: int) -> None:
    bars = make_bars(200, freq="1min")
    bars = bars.set_axis(bars.index + pd.Timedelta(minutes=start))[np.array(keep)]
    got = resample(bars, Timeframe(to), Timeframe(60))
    check_bars(got)
    expected = naive(bars, to, 60, 0)
    assert [t.timestamp() for t in got.index] == [row[0] for row in expected]
    np.testing.assert_array_equal(got.to_numpy(), np.array([row[1:] for row in expected]).reshape(-1, 5))


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(2, 199))
def test_the_future_changes_nothing(make_bars: Make, cut: int) -> None:
    bars = make_bars(200, freq="1min")
    past = resample(bars[:cut], Timeframe(900), Timeframe(60))
    pd.testing.assert_frame_equal(past, resample(bars, Timeframe(900))[: len(past)])
    assert (past.index <= bars.index[cut - 1]).all()


def test_volume_is_conserved_over_whole_buckets(make_bars: Make) -> None:
    bars = make_bars(240, start="2024-01-01 00:01", freq="1min")
    hours = resample(bars, Timeframe(3600))
    assert len(hours) == 4
    assert hours["volume"].sum() == bars["volume"].sum()
    assert hours.index[0] == pd.Timestamp("2024-01-01 01:00", tz="UTC")


def test_weeks_end_on_monday_midnight(make_bars: Make) -> None:
    bars = make_bars(24 * 21)  # from Monday 2024-01-01
    weeks = resample(bars, Timeframe(604800))
    assert list(weeks.index) == list(pd.date_range("2024-01-08", periods=3, freq="7D", tz="UTC"))


def test_same_timeframe_copies_and_others_must_divide(make_bars: Make) -> None:
    bars = make_bars(20)
    same = resample(bars, Timeframe(3600))
    pd.testing.assert_frame_equal(same, bars)
    assert same is not bars
    with pytest.raises(DataError, match="1h bars cannot form 90m bars: choose a whole multiple of 1h"):
        resample(bars, Timeframe(5400))

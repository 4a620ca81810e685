import re
import tracemalloc
from collections import deque

import numpy as np
import pandas as pd
import pytest

import features
from core.errors import ConfigurationError, DataError
from features.batch import CHUNK, build_blocks, epoch_seconds
from features.probes import bits

SOME = {f"far_{n}": f"close / mean(close, {n}) - ema(close, {n})" for n in range(2, 62)}


def test_one_column_per_feature_on_the_same_index(sp500):
    frame = features.build(sp500)
    assert list(frame.columns) == features.names()
    assert frame.index.equals(sp500.index)
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_fewer_bars_than_the_warmup_give_nan(sp500):
    frame = features.build(sp500.iloc[:5], {"m": "mean(close, 6)", "r": "close / open"})
    assert frame["m"].isna().all()
    assert frame["r"].notna().all()
    assert features.build(sp500.iloc[:0]).shape == (0, len(features.names()))


def test_an_inconsistent_bar_is_named(sp500):
    bars = sp500.iloc[:10].copy()
    bars.iloc[3, bars.columns.get_loc("high")] = bars["low"].iloc[3] * 0.5
    with pytest.raises(DataError, match="row 3 at"):
        features.build(bars)


def test_an_empty_or_bare_definition_is_refused(sp500):
    with pytest.raises(ConfigurationError, match="at least one"):
        features.build(sp500, {})
    with pytest.raises(ConfigurationError, match="apply an operator"):
        features.build(sp500, {"x": "close"})
    with pytest.raises(ConfigurationError, match="drop one"):
        features.build(sp500, {"x": "close + 1", "y": "close + 1.0"})


@pytest.mark.parametrize("rows", [1, 7, 1000, CHUNK, 3000, 5000])
def test_blocks_are_the_whole_bit_for_bit(rows, sp500):
    bars = sp500.iloc[: 30 if rows == 1 else 3000]
    chosen = SOME | {"weekly": "on('1w', close / mean(close, 3))"}
    blocks, whole = list(build_blocks(bars, chosen, rows=rows)), features.build(bars, chosen)
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    together = pd.concat(blocks)
    assert together.index.equals(whole.index)
    assert (bits(together) == bits(whole)).all()


def test_no_bars_are_one_block_without_rows(sp500):
    (only,) = build_blocks(sp500.iloc[:0], SOME)
    assert only.shape == (0, len(SOME))


def test_a_fault_in_a_later_block_is_named_by_its_row_in_the_whole(sp500):
    bars = sp500.iloc[:100].copy()
    bars.iloc[73, 1] = bars.iloc[73, 2] * 0.5
    blocks = build_blocks(bars, SOME, rows=40)
    assert len(next(blocks)) == 40
    with pytest.raises(DataError, match=re.escape(f"row 73 at {bars.index[73]}")):
        next(blocks)


def test_times_are_in_order_across_blocks_too(sp500):
    bars = pd.concat([sp500.iloc[:40], sp500.iloc[39:60]])
    blocks = build_blocks(bars, SOME, rows=40)
    next(blocks)
    with pytest.raises(DataError, match=r"row 40 at .* strictly increasing"):
        next(blocks)


def peak_bytes(work):
    """Most memory that numpy and Python held at a time during `work`."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def minutes(rows):
    close = 100 + np.sin(np.arange(rows) / 50.0)
    values = {"open": close, "high": close + 0.1, "low": close - 0.1, "close": close, "volume": close}
    index = pd.date_range("2015-01-01", periods=rows, freq="min", tz="UTC", name="timestamp")
    return pd.DataFrame(values, index=index)


def test_building_takes_the_result_and_little_more():
    bars = minutes(50_000)
    result = len(bars) * len(SOME) * 8
    assert peak_bytes(lambda: features.build(bars, SOME)) < 1.2 * result


def test_memory_of_blocks_does_not_grow_with_the_bars():
    few, many = minutes(50_000), minutes(200_000)
    peaks = [peak_bytes(lambda bars=bars: deque(build_blocks(bars, SOME), maxlen=0)) for bars in (few, many)]
    assert peaks[1] < 1.02 * peaks[0]
    assert peaks[1] < 0.3 * len(many) * len(SOME) * 8


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_whole_seconds_are_exact_in_every_unit(unit):
    index = pd.date_range("1969-12-31 23:59:58", periods=5, freq="s", tz="UTC").as_unit(unit)
    assert epoch_seconds(index).tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]

"""`on(timeframe, x)` against pandas: resample, x on the coarse frame, the last closed bar at every bar."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import features
from core.errors import ConfigurationError, DataError
from core.timeframe import Timeframe
from data.resample import resample
from features.batch import bar_columns, epoch_seconds
from features.catalogue import compiled
from features.probes import bits, probe, streamed_rows
from features.readiness import require_coarser, require_history, warm_rows
from features.stream import Stream
from features.universe.stream import UniverseStream

ROWS = 3000
INNER = [
    "close",
    "high - low",
    "open / delay(close, 1) - 1",
    "volume",
    "hour_of_day(time) + 24 * day_of_week(time)",
    "rsi(close, 5)",
    "corr(returns, log(volume), 9)",
    "bars_since_highest(high, 6) + 0 * mean(3, 4)",
    "log(2)",
]
MIXED = {
    "distance": "close / on('15m', mean(close, 3)) - 1",
    "two_clocks": "on('15m', rsi(close, 3)) - on('1h', rsi(close, 3))",
    "one_clock": "on('15m', std(close, 4)) / on('15m', atr(3)) + on('15m', returns)",
    "over_it": "mean(on('15m', close), 20) / close",
    "fading": "ema(on('1h', close), 3) - ema(on('1h', volume), 4)",
    "week": "on('1w', close) - on('7m', close)",
    "plain": "rsi(close, 14)",
}


def bars_at(times: pd.DatetimeIndex, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.002 * rng.standard_t(4, len(times))))
    opened = close * np.exp(0.001 * rng.normal(size=len(times)))
    high = np.maximum(opened, close) * np.exp(0.001 * rng.random(len(times)))
    low = np.minimum(opened, close) * np.exp(-0.001 * rng.random(len(times)))
    values = {"open": opened, "high": high, "low": low, "close": close}
    return pd.DataFrame(
        {**values, "volume": rng.lognormal(5, 1, len(times))}, index=times.rename("timestamp")
    )


def _minutes(start: str) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=ROWS, freq="min", tz="UTC")


def _gappy() -> pd.DatetimeIndex:
    rng = np.random.default_rng(8)
    steps = np.where(rng.random(ROWS) < 0.05, rng.integers(2, 900, ROWS), rng.integers(1, 4, ROWS))
    return pd.Timestamp("1969-12-30 11:00", tz="UTC") + pd.to_timedelta(np.cumsum(steps), unit="min")


def _irregular() -> pd.DatetimeIndex:
    milliseconds = np.cumsum(np.random.default_rng(9).integers(1, 400_000, ROWS))
    return pd.Timestamp("2021-02-26 22:00:00.250", tz="UTC") + pd.to_timedelta(milliseconds, unit="ms")


MARKETS = {
    "minutes": (bars_at(_minutes("2024-01-05 10:07")), ("15m", "4h", "90m", "7m")),
    "minutes from an end": (bars_at(_minutes("2024-01-08 00:00")), ("15m", "1d")),
    "minutes after an end": (bars_at(_minutes("2024-01-08 00:01")), ("15m", "1h")),
    "gaps": (bars_at(_gappy()), ("5m", "1h", "1d", "1w")),
    "odd moments": (bars_at(_irregular()), ("2m", "30m", "1d")),
    "sessions": (bars_at(pd.bdate_range("2012-01-04 21:00", periods=ROWS, tz="UTC")), ("2d", "1w", "4w")),
    "days": (bars_at(pd.date_range("2012-01-04", periods=ROWS, tz="UTC")), ("1w", "3d")),
    "no coarser": (bars_at(_minutes("2024-01-05 10:07")), ("1m", "20s")),
}
CASES = [(market, timeframe) for market, (_, timeframes) in MARKETS.items() for timeframe in timeframes]


def coarse_bars(bars: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Closed bars by pandas, less the one in which history begins."""
    step = pd.Timedelta(seconds=Timeframe.parse(timeframe).seconds)
    origin = pd.Timestamp("1970-01-05" if step % pd.Timedelta("7D") == pd.Timedelta(0) else 0, tz="UTC")
    groups = bars.resample(step, closed="right", label="right", origin=origin)
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    made = groups.agg(rules)[groups["close"].count() > 0].iloc[1:]
    return made[made.index <= bars.index[-1]].rename_axis("timestamp")


def held(bars: pd.DataFrame, timeframe: str, inner: str) -> pd.Series:
    """The value of `inner` at the last coarse bar that is closed at each bar."""
    values = features.build(coarse_bars(bars, timeframe), {"x": f"{inner} + 0"})["x"]
    return values.reindex(bars.index, method="ffill")


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize(("market", "timeframe"), CASES)
def test_it_is_the_last_closed_bar_of_pandas(market, timeframe, inner):
    bars = MARKETS[market][0]
    value = features.build(bars, {"x": f"on('{timeframe}', {inner})"})["x"]
    expected = held(bars, timeframe, inner)
    needed = features.warmup({"x": f"{inner} + 0"})
    assert expected.notna().any() == (len(coarse_bars(bars, timeframe)) > needed)
    # volumes are summed in another order
    np.testing.assert_allclose(value, expected, rtol=1e-12 if "volume" not in inner else 1e-9, atol=1e-12)


def _mixed(bars: pd.DataFrame) -> dict[str, pd.Series]:
    def rsi(timeframe: str) -> pd.Series:
        return held(bars, timeframe, "rsi(close, 3)")

    def fading(column: str, span: int) -> pd.Series:
        return held(bars, "1h", column).ewm(span=span, adjust=False, ignore_na=True).mean()

    over_it = held(bars, "15m", "close").rolling(20).mean() / bars["close"]
    started = held(bars, "1h", "close").notna().cumsum()
    return {
        "distance": bars["close"] / held(bars, "15m", "mean(close, 3)") - 1,
        "two_clocks": rsi("15m") - rsi("1h"),
        "one_clock": held(bars, "15m", "std(close, 4) / atr(3) + returns"),
        "over_it": over_it,
        "fading": (fading("close", 3) - fading("volume", 4)).where(
            started > features.warmup({"x": "ema(close, 4)"})
        ),
        "week": held(bars, "1w", "close") - held(bars, "7m", "close"),
    }


@pytest.mark.parametrize("market", ["minutes", "minutes from an end", "gaps", "odd moments"])
def test_timeframes_are_combined_with_each_other_and_with_the_bars(market):
    bars = MARKETS[market][0]
    values = features.build(bars, MIXED)
    for name, expected in _mixed(bars).items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)
    pd.testing.assert_series_equal(
        values["plain"], features.build(bars, {"plain": "rsi(close, 14)"})["plain"]
    )


@pytest.mark.parametrize(("start", "timeframe"), [("2024-01-01 00:01", "4h"), ("2024-01-01 00:01", "1d")])
def test_it_agrees_with_what_the_source_resamples(start, timeframe):
    """The bar in which history begins does not count here, even when history begins at its beginning."""
    bars = bars_at(pd.date_range(start, periods=9000, freq="min", tz="UTC"))
    longer = resample(bars, Timeframe.parse(timeframe), Timeframe.parse("1m"))
    expected = (longer["high"] / longer["open"]).reindex(bars.index, method="ffill")
    value = features.build(bars, {"x": f"on('{timeframe}', high / open)"})["x"]
    first = value.first_valid_index()
    assert first == longer.index[1]
    np.testing.assert_array_equal(value[first:], expected[first:])


def test_a_session_that_ends_inside_a_day_is_known_to_be_over_at_the_next_bar(sp500):
    """Closes at 21:00 (20:00 in summer): Friday's bar does not end the week, Monday's is after its end."""
    bars = sp500.iloc[:300]
    value = features.build(bars, {"x": "on('1w', close)"})["x"].dropna()
    week = bars.index.tz_localize(None).to_period("W-SUN")
    before = bars["close"].groupby(week).last().shift(1)
    assert len(value) > 280
    np.testing.assert_array_equal(value, before[week[-len(value) :]])


def test_one_bar_closes_the_bar_that_a_gap_left_open_and_its_own():
    minutes = [1, 2, 4, 5, 7, 9, 20, 25, 31]
    index = pd.DatetimeIndex(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(minutes, unit="min"))
    bars = bars_at(index).assign(open=1.0, high=99.0, low=1.0, close=[10.0, 11, 12, 13, 14, 15, 16, 17, 18])
    texts = {
        "close": "close",
        "delayed": "delay(close, 1)",
        "volume": "volume",
        "minute": "hour_of_day(time) * 60",
    }
    value = features.build(
        bars.rename_axis("timestamp").assign(volume=1.0), {k: f"on('5m', {x})" for k, x in texts.items()}
    )
    nan = np.nan
    # (0, 5] is where history begins; 20 closes (5, 10] and (15, 20], 31 closes nothing
    np.testing.assert_array_equal(value["close"], [nan] * 6 + [16, 17, 17])
    np.testing.assert_array_equal(value["delayed"], [nan] * 6 + [15, 16, 16])
    np.testing.assert_array_equal(value["volume"], [nan] * 6 + [1, 1, 1])
    np.testing.assert_allclose(value["minute"], [nan] * 6 + [20, 25, 25])


@pytest.mark.parametrize("era", [-400_000_000, 1_700_000_000])
@pytest.mark.parametrize("timeframe", ["7s", "90m", "1d", "1w"])
def test_a_moment_after_an_end_belongs_to_the_next_bar(timeframe, era):
    """Each bar of two: the smallest float after the end of the one before, and the end itself."""
    step, anchor = Timeframe.parse(timeframe).seconds, Timeframe.parse(timeframe).anchor
    ends = anchor + step * np.arange(era // step, era // step + 500.0)
    columns = np.ones((6, 2 * len(ends)))
    columns[5] = np.stack([np.nextafter(ends - step, np.inf), ends], axis=1).ravel()
    program, out = compiled({"x": f"on('{timeframe}', volume) + 0"}), np.empty((1, columns.shape[1]))
    program.run(columns, program.initial_state.copy(), program.buffers(64), out)
    assert np.isnan(out[0, :3]).all()
    assert (out[0, 3:] == 2.0).all()


@pytest.mark.parametrize("block", [1, 7, 256, 5000])
@pytest.mark.parametrize("market", ["minutes", "gaps", "odd moments"])
def test_every_block_size_gives_the_same_bits_as_the_stream(market, block):
    bars = MARKETS[market][0]
    program = compiled(MIXED)
    out = np.empty((len(MIXED), len(bars)))
    program.run(bar_columns(bars), program.initial_state.copy(), program.buffers(block), out)
    stream = Stream(MIXED)
    assert (bits(out.T) == bits(np.array(list(streamed_rows(stream, bars))))).all()
    assert (bits(out.T) == bits(features.build(bars, MIXED))).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["minutes", "gaps", "odd moments"]), st.integers(0, 600))
def test_a_checkpoint_holds_the_bars_that_are_half_made(market, cut):
    bars = MARKETS[market][0].iloc[:620]
    first, second = Stream(MIXED), Stream(MIXED)
    for _ in streamed_rows(first, bars.iloc[:cut]):
        pass
    second.restore(first.checkpoint())
    assert second.complete == first.complete
    rows = np.array(list(streamed_rows(second, bars.iloc[cut:])))
    assert (bits(rows) == bits(features.build(bars, MIXED).iloc[cut:])).all()


@pytest.mark.parametrize(
    "market", ["minutes", "minutes from an end", "gaps", "odd moments", "sessions", "days"]
)
def test_the_first_value_comes_when_it_is_warm_and_the_stream_knows(market):
    bars, timeframes = MARKETS[market]
    texts = {f"{t} {n}": text.format(t) for n, text in enumerate(_SLOW) for t in timeframes[:2]}
    values, rows = features.build(bars, texts), warm_rows(epoch_seconds(bars.index), texts)
    for name, text in texts.items():
        assert rows[name] >= features.warmup({name: text})
        assert (np.flatnonzero(values[name].notna())[:1] == min(rows[name], len(bars) - 1)).all()
    streamed = {name: text for name, text in texts.items() if rows[name] < len(bars)}
    stream, warm = Stream(streamed), max(rows[name] for name in streamed)
    for row, _ in enumerate(streamed_rows(stream, bars)):
        assert stream.complete == max(0, row + 1 - warm)


_SLOW = ["on('{}', close) + 0", "on('{}', mean(close, 4)) / close", "mean(on('{}', std(close, 3)), 30)"]


@pytest.mark.parametrize("skipped", [1, 8, 15, 16, 500])
def test_windows_are_the_same_bits_wherever_history_begins(skipped):
    bars = MARKETS["gaps"][0]
    texts = {
        "held": "on('1h', mean(volume, 5) / volume)",
        "mixed": "corr(on('5m', returns), returns, 12) + on('5m', std(close, 6))",
    }
    later = bars.iloc[skipped:]
    rows = warm_rows(epoch_seconds(later.index), texts)
    whole, part = features.build(bars, texts), features.build(later, texts)
    for name, row in rows.items():
        assert row < 2000
        assert (
            bits(part[name].iloc[row:].to_frame()) == bits(whole[name].iloc[skipped + row :].to_frame())
        ).all()


def test_a_recursion_over_held_values_has_forgotten_where_history_begins():
    bars = MARKETS["minutes"][0]
    texts = {"fading": "ema(on('15m', close), 30)"}
    later = bars.iloc[700:]
    row = warm_rows(epoch_seconds(later.index), texts)["fading"]
    whole, part = features.build(bars, texts)["fading"].iloc[700:], features.build(later, texts)["fading"]
    np.testing.assert_allclose(part.iloc[row:], whole.iloc[row:], rtol=1e-6)
    assert part.iloc[:row].isna().all()


@pytest.mark.parametrize("market", ["minutes", "gaps"])
def test_probes_hold_nothing_against_it(market):
    bars = MARKETS[market][0].iloc[:2600]
    assert probe(bars, {name: text for name, text in MIXED.items() if name != "week"}, streamed=300) == []


def test_symbols_are_compared_by_what_is_held_for_each():
    index = pd.date_range("2020-01-03", periods=60, tz="UTC")
    markets = {symbol: bars_at(index, seed) for seed, symbol in enumerate("ABC")}
    held_returns = {
        symbol: features.build(bars, {"x": "on('1w', returns)"})["x"] for symbol, bars in markets.items()
    }
    ranks = pd.DataFrame(held_returns).rank(axis=1, pct=True)
    stream = UniverseStream(markets, {"rank": "cs_rank(on('1w', returns))"})
    for time in index:
        given = {symbol: bars.loc[time].tolist() for symbol, bars in markets.items()}
        for symbol, row in stream.push(time.timestamp(), given).items():
            np.testing.assert_allclose(row, ranks.loc[time, symbol], rtol=1e-12)
    assert ranks.iloc[20:].notna().all(axis=None)


def test_a_value_before_its_bar_is_closed_would_be_found():
    bars = MARKETS["minutes"][0].iloc[:600]

    def early(frame: pd.DataFrame) -> pd.DataFrame:
        return features.build(frame, {"x": "on('15m', close)"}).bfill()

    assert {finding.probe for finding in probe(bars, {"x": "on('15m', close)"}, build=early)} >= {"future"}


def test_what_reads_no_column_runs_by_its_clock_too():
    bars = MARKETS["minutes"][0].iloc[:200]
    texts = {f"f{n}": f"on('15m', mean({n}, 2)) + on('15m', log({n}))" for n in range(2, 6)}
    rows = np.array(list(streamed_rows(Stream(texts), bars)))
    expected = [n + np.log(n) for n in range(2, 6)]
    np.testing.assert_allclose(rows[-1], expected, rtol=1e-12)
    assert (bits(rows) == bits(features.build(bars, texts))).all()


def test_one_clock_per_timeframe_and_no_part_twice():
    program = compiled(MIXED)
    assert program.clocks == 1 + 4  # 15m, 1h, 1w, 7m
    assert len(program.waits) == 8
    shared = compiled({"a": "on('1h', rsi(close, 9))", "b": "on('60m', rsi(close, 9)) * 2 + rsi(close, 9)"})
    names = [shared.operators[op] for op in shared.code[:, 0]]
    assert names.count("clock") == names.count("coarse_close") == names.count("on") == 1
    assert names.count("wilder") == 4


@pytest.mark.parametrize(
    "text", ["on('1d', close) / close", "on('12h', close) / close", "on('36h', close) / close"]
)
def test_a_timeframe_that_the_bars_cannot_make_is_refused(text):
    chosen = {"plain": "rsi(close, 14)", "mine": text, "fine": "on('2d', close) / close"}
    with pytest.raises(
        ConfigurationError, match=r"mine: on\('.*', close\) on bars of 1d: .* such as 2d"
    ) as caught:
        require_coarser(chosen, Timeframe.parse("1d"))
    assert len(caught.value.faults) == 1
    require_coarser(chosen, Timeframe.parse("6h"))


def test_history_shorter_than_a_warmup_is_refused_by_name():
    times = epoch_seconds(_minutes("2024-01-01 00:00"))
    chosen = {"quick": "mean(close, 5)", "slow": "mean(close, 50)", "day": "on('1d', mean(close, 2))"}
    require_history({name: chosen[name] for name in ("quick", "slow")}, times[:50])
    with pytest.raises(
        DataError, match=r"49 bars.*slow after 49, day after 2 and 2 whole bars of 1d"
    ) as caught:
        require_history(chosen, times[:49])
    assert "quick" not in str(caught.value)
    # the first day ends with the first bar, two whole ones after 2880 more
    require_history(chosen, times[: 2 * 1440 + 1])
    with pytest.raises(DataError, match="day after"):
        require_history(chosen, times[: 2 * 1440])

"""Every operator against an independent oracle: TA-Lib, pandas or a plain loop."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import talib

import features
from features.operators import OPERATORS
from tests.features import test_indicators as indicators
from tests.features import test_order as order
from tests.features import test_patterns as patterns
from tests.features import test_statistics_features as statistics
from tests.features import test_universe as universe

Series = pd.Series


def _rolling(function: Callable[..., float], window: int, *columns: Series) -> Series:
    out = np.full(len(columns[0]), np.nan)
    values = [np.asarray(column) for column in columns]
    for t in range(window - 1, len(out)):
        out[t] = function(*(column[t - window + 1 : t + 1] for column in values))
    return Series(out, index=columns[0].index)


def _loop(function: Callable[..., float], *columns: Series) -> Series:
    rows = zip(*(np.asarray(column) for column in columns), strict=True)
    return Series([function(*row) for row in rows], index=columns[0].index)


def _recursion(x: Series, alpha: float) -> Series:
    return x.ewm(alpha=alpha, adjust=False).mean()


def _wma(window: np.ndarray) -> float:
    weights = np.arange(1, len(window) + 1)
    return float(np.dot(window, weights) / weights.sum())


def _fit(window: np.ndarray) -> tuple[float, float]:
    gradient, constant = np.polyfit(np.arange(len(window)), window, 1)
    residual = window - gradient * np.arange(len(window)) - constant
    return gradient, 1 - residual.var() / window.var()


def _since(pick: Callable[[np.ndarray], int]) -> Callable[[np.ndarray], float]:
    return lambda window: float(pick(window[::-1]))


ORACLES: dict[str, tuple[str, Callable[[pd.DataFrame], Series]]] = {
    "add": ("open + close", lambda b: b.open + b.close),
    "sub": ("open - close", lambda b: b.open - b.close),
    "mul": ("open * close", lambda b: b.open * b.close),
    "div": ("open / (close - 1400)", lambda b: b.open / (b.close - 1400)),
    "ratio": (
        "ratio(open, max(close - 1300, 0), 7)",
        lambda b: _loop(lambda o, c: o / (c - 1300) if c > 1300 else 7.0, b.open, b.close),
    ),
    "neg": ("-close", lambda b: -b.close),
    "abs": ("abs(close - 1300)", lambda b: (b.close - 1300).abs()),
    "sign": ("sign(close - open)", lambda b: np.sign(b.close - b.open)),
    "square": ("square(close)", lambda b: b.close**2),
    "sqrt": ("sqrt(close)", lambda b: np.sqrt(b.close)),
    "log": ("log(close)", lambda b: np.log(b.close)),
    "sin": ("sin(close)", lambda b: np.sin(b.close)),
    "cos": ("cos(close)", lambda b: np.cos(b.close)),
    "max": ("max(open, close)", lambda b: np.maximum(b.open, b.close)),
    "min": ("min(open, close)", lambda b: np.minimum(b.open, b.close)),
    "gt": ("close > open", lambda b: (b.close > b.open).astype(float)),
    "ge": ("close >= high", lambda b: (b.close >= b.high).astype(float)),
    "where": ("where(close > open, high, low)", lambda b: b.high.where(b.close > b.open, b.low)),
    "day_of_week": ("day_of_week(time)", lambda b: Series(b.index.dayofweek, b.index).astype(float)),
    "hour_of_day": (
        "hour_of_day(time)",
        lambda b: Series(b.index.hour + b.index.minute / 60 + b.index.second / 3600, b.index),
    ),
    "day_of_year": ("day_of_year(time)", lambda b: Series(b.index.dayofyear - 1, b.index).astype(float)),
    "month": ("month(time)", lambda b: Series(b.index.month, b.index).astype(float)),
    "delay": ("delay(close, 7)", lambda b: b.close.shift(7)),
    "sum": ("sum(volume, 21)", lambda b: _rolling(math.fsum, 21, b.volume)),
    "mean": ("mean(close, 50)", lambda b: _rolling(lambda w: math.fsum(w) / 50, 50, b.close)),
    "highest": ("highest(high, 55)", lambda b: b.high.rolling(55).max()),
    "lowest": ("lowest(low, 13)", lambda b: b.low.rolling(13).min()),
    "bars_since_highest": (
        "bars_since_highest(high, 31)",
        lambda b: _rolling(_since(np.argmax), 31, b.high),
    ),
    "bars_since_lowest": ("bars_since_lowest(low, 31)", lambda b: _rolling(_since(np.argmin), 31, b.low)),
    "rank": ("rank(close, 40)", lambda b: b.close.rolling(40).rank(pct=True)),
    "deviation": (
        "deviation(close, mean(close, 20), 20)",
        lambda b: _rolling(lambda w: np.abs(w - w.mean()).mean(), 20, b.close),
    ),
    "std": ("std(close, 23)", lambda b: _rolling(lambda w: w.std(ddof=1), 23, b.close)),
    "skew": ("skew(close, 37)", lambda b: _rolling(lambda w: Series(w).skew(), 37, b.close)),
    "kurt": ("kurt(close, 37)", lambda b: _rolling(lambda w: Series(w).kurt(), 37, b.close)),
    "corr": (
        "corr(close, volume, 29)",
        lambda b: _rolling(lambda x, y: np.corrcoef(x, y)[0, 1], 29, b.close, b.volume),
    ),
    "slope": ("slope(close, 19)", lambda b: _rolling(lambda w: _fit(w)[0], 19, b.close)),
    "rsquare": ("rsquare(close, 19)", lambda b: _rolling(lambda w: _fit(w)[1], 19, b.close)),
    "wma": ("wma(close, 27)", lambda b: _rolling(_wma, 27, b.close)),
    "ema": ("ema(close, 12)", lambda b: _recursion(b.close, 2 / 13)),
    "wilder": ("wilder(close, 9)", lambda b: _recursion(b.close, 1 / 9)),
}


def _agree(actual: Series, expected: Series, skip: int = 0, scale: float = 1e-9) -> None:
    actual, expected = actual.iloc[skip:], expected.iloc[skip:]
    floor = float(np.nanmax(np.abs(expected))) * 1e-3
    error = (actual - expected).abs() / np.maximum(expected.abs(), floor)
    assert actual.notna().all()
    assert error.max() <= scale


def test_every_operator_has_an_oracle():
    elsewhere = [indicators.OPERATOR_ORACLES, order.ORACLES, patterns.ORACLES, statistics.ORACLES]
    across = {name for text in universe.DEFINITIONS.values() for name in OPERATORS if f"{name}(" in text}
    tables = [*ORACLES, *(name for table in elsewhere for name in table), "on"]
    assert sorted({*tables, *across}) == sorted(OPERATORS)
    assert len(tables) == len(set(tables))


@pytest.mark.parametrize("name", ORACLES)
def test_operator_agrees_with_its_oracle(name, sp500):
    text, oracle = ORACLES[name]
    bars = sp500.iloc[:900]
    start = features.warmup({name: text})
    _agree(features.build(bars, {name: text})[name], oracle(bars), start)


TALIB: dict[str, Callable[[pd.DataFrame], Series]] = {
    "rsi(close, 14)": lambda b: talib.RSI(b.close, 14),
    "atr(14)": lambda b: talib.ATR(b.high, b.low, b.close, 14),
    "plus_di(14)": lambda b: talib.PLUS_DI(b.high, b.low, b.close, 14),
    "minus_di(14)": lambda b: talib.MINUS_DI(b.high, b.low, b.close, 14),
    "dx(14)": lambda b: talib.DX(b.high, b.low, b.close, 14),
    "wilder(dx(9), 9)": lambda b: talib.ADX(b.high, b.low, b.close, 9),
    "macd(close, 12, 26)": lambda b: talib.MACD(b.close, 12, 26, 9)[0],
    "ema(macd(close, 12, 26), 9)": lambda b: talib.MACD(b.close, 12, 26, 9)[1],
    "stochastic(14)": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[0],
    "mean(stochastic(14), 3)": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[1],
    "stochastic(50) - 100": lambda b: talib.WILLR(b.high, b.low, b.close, 50),
    "cci(20)": lambda b: talib.CCI(b.high, b.low, b.close, 20),
    "roc(close, 12)": lambda b: talib.ROCP(b.close, 12),
    "wma(close, 20)": lambda b: talib.WMA(b.close, 20),
    "slope(close, 20)": lambda b: talib.LINEARREG_SLOPE(b.close, 20),
    "forecast(close, 20)": lambda b: talib.LINEARREG(b.close, 20),
    "mean(close, 200)": lambda b: talib.SMA(b.close, 200),
    "std(close, 20)": lambda b: talib.STDDEV(b.close, 20) * math.sqrt(20 / 19),
    "true_range": lambda b: talib.TRANGE(b.high, b.low, b.close),
}
CATALOGUE_TALIB: dict[str, Callable[[pd.DataFrame], Series]] = {
    "aroon_25": lambda b: talib.AROONOSC(b.high, b.low, 25),
    "mfi_14": lambda b: talib.MFI(b.high, b.low, b.close, b.volume, 14),
    "ultimate_7_14_28": lambda b: talib.ULTOSC(b.high, b.low, b.close, 7, 14, 28),
    "atr_ratio_14": lambda b: talib.NATR(b.high, b.low, b.close, 14) / 100,
}
# long enough for TA-Lib's other seed of a recursion to be forgotten below the tolerance
SETTLED = 2000


@pytest.mark.parametrize("text", TALIB)
def test_shorthand_agrees_with_talib(text, sp500):
    _agree(features.build(sp500, {"x": text})["x"], TALIB[text](sp500), SETTLED)


@pytest.mark.parametrize("name", CATALOGUE_TALIB)
def test_feature_agrees_with_talib(name, sp500):
    definitions = {name: features.definitions()[name]}
    _agree(features.build(sp500, definitions)[name], CATALOGUE_TALIB[name](sp500), SETTLED)


def test_missing_values_pass_through_comparisons_and_choices():
    bars = pd.DataFrame(
        {"open": [1.0, 2, 3], "high": [9.0, 9, 9], "low": [1.0, 1, 1], "close": [1.0, 2, 3], "volume": 0.0},
        index=pd.date_range("2020-01-01", periods=3, tz="UTC", name="timestamp"),
    )
    texts = [
        "delay(close, 1) > 0",
        "where(delay(close, 1), 1, 2)",
        "sign(delay(close, 1))",
        "max(delay(close, 1), 9)",
    ]
    texts += ["min(9, delay(close, 1))", "ratio(delay(close, 1), volume, 5)", "ema(delay(close, 1), 1)"]
    frame = features.build(bars, {f"f{i}": text for i, text in enumerate(texts)})
    assert frame.iloc[0].isna().all()
    assert frame.iloc[1:].notna().all(axis=None)
    assert features.build(bars, {"x": "close / volume"})["x"].isna().all()


@pytest.mark.parametrize("window", [*range(1, 20), 31, 32, 33, 100])
def test_a_window_of_any_length_holds_exactly_its_values(window, sp500):
    bars = sp500.iloc[:260]
    frame = features.build(bars, {"s": f"sum(close, {window})", "h": f"highest(low, {window})"})
    np.testing.assert_allclose(frame["s"], bars["close"].rolling(window).sum(), rtol=1e-12)
    np.testing.assert_array_equal(frame["h"], bars["low"].rolling(window).max())


def test_a_spike_leaves_no_trace_once_it_has_left_the_window(sp500):
    bars = sp500.iloc[:200].copy()
    definitions = {"m": "mean(close, 20)", "s": "std(close, 20)", "k": "kurt(close, 20)"}
    before = features.build(bars, definitions)
    bars.iloc[50, :4] *= 1e15
    after = features.build(bars, definitions)
    assert after.iloc[70:].equals(before.iloc[70:])


def test_civil_dates_over_four_centuries():
    from features.catalogue import compiled

    days = pd.date_range("1890-01-01 12:00", "2290-01-01", freq="D", unit="s", tz="UTC")
    columns = np.ones((6, len(days)))
    columns[5] = days.asi8
    texts = {"m": "month(time)", "d": "day_of_year(time)", "w": "day_of_week(time)"}
    program, out = compiled(texts), np.empty((3, len(days)))
    program.run(columns, program.initial_state.copy(), program.buffers(512), out)
    np.testing.assert_array_equal(out, [days.month, days.dayofyear - 1, days.dayofweek])


@pytest.mark.parametrize("window", [1, 2, 3, 9, 14, 26, 200])
@pytest.mark.parametrize(("name", "alpha"), [("ema", lambda n: 2 / (n + 1)), ("wilder", lambda n: 1 / n)])
def test_recursive_warmup_is_the_first_bar_with_a_millionth_forgotten(name, alpha, window):
    bars = features.warmup({"x": f"{name}(close, {window})"})
    forgotten = 1 - alpha(window)
    assert forgotten**bars < 1e-6 or forgotten == 0
    assert bars == 0 or forgotten ** (bars - 1) >= 1e-6

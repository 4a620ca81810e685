"""Every feature of prices, and their operators, against TA-Lib where it can, else pandas or a plain loop."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib

import features
from features.catalogue import average, levels, momentum, price, trend, volatility

Floats = npt.NDArray[np.float64]
Series = pd.Series
Bars = pd.DataFrame
Oracle = Callable[[Bars], Series]

FEATURES = [f for each in (price, average, trend, momentum, volatility, levels) for f in each.FEATURES]
# long enough for TA-Lib's other seed of a recursion to be forgotten below the tolerance
SETTLED = 2000


def _rolling(function: Callable[..., float], window: int, *columns: Series) -> Series:
    values = [np.asarray(column) for column in columns]
    out = np.full(len(values[0]), np.nan)
    for t in range(window - 1, len(out)):
        out[t] = function(*(column[t - window + 1 : t + 1] for column in values))
    return Series(out, index=columns[0].index)


def _high(b: Bars, n: int) -> Series:
    return b.high.rolling(n).max()


def _low(b: Bars, n: int) -> Series:
    return b.low.rolling(n).min()


def _atr(b: Bars, n: int = 14) -> Series:
    return talib.ATR(b.high, b.low, b.close, n)


def _true_range(b: Bars) -> Series:
    return talib.TRANGE(b.high, b.low, b.close)


def _returns(b: Bars, n: int = 1) -> Series:
    return np.log(b.close / b.close.shift(n))


def _overnight(b: Bars) -> Series:
    return np.log(b.open / b.close.shift())


def _intraday(b: Bars) -> Series:
    return np.log(b.close / b.open)


def _std(x: Series, n: int) -> Series:
    return _rolling(lambda w: w.std(ddof=1), n, x)


def _mean(x: Series, n: int) -> Series:
    return _rolling(lambda w: math.fsum(w) / n, n, x)


def _zscore(x: Series, n: int) -> Series:
    return (x - _mean(x, n)) / _std(x, n)


def _position(b: Bars, n: int) -> Series:
    return (b.close - _low(b, n)) / (_high(b, n) - _low(b, n))


def _midpoint(b: Bars, n: int) -> Series:
    return talib.MIDPRICE(b.high, b.low, n)


def _fit(window: Floats) -> tuple[float, float, float]:
    """Slope, share of variance explained, and the line's value at the newest bar."""
    bars = np.arange(len(window)) - (len(window) - 1) / 2
    gradient = float(bars @ window / (bars @ bars))
    line = window.mean() + gradient * bars
    explained = 1 - ((window - line) ** 2).sum() / ((window - window.mean()) ** 2).sum()
    return gradient, explained, float(line[-1])


def _cloud(b: Bars) -> tuple[Series, Series]:
    return ((_midpoint(b, 9) + _midpoint(b, 26)) / 2).shift(26), _midpoint(b, 52).shift(26)


def _beyond(value: float, one: float, other: float) -> float:
    top, bottom = max(one, other), min(one, other)
    if value > top:
        return value - top
    return value - bottom if value < bottom else 0.0


def _ichimoku_position(b: Bars) -> Series:
    rows = zip(b.close, *_cloud(b), strict=True)
    return Series([_beyond(*row) for row in rows], index=b.index) / _atr(b)


def _range_mean(b: Bars, term: Callable[[Floats, Floats, Floats, Floats], Floats]) -> Series:
    logs = (np.log(b[name].to_numpy()) for name in ("open", "high", "low", "close"))
    return _mean(Series(term(*logs), index=b.index), 20)


def _rogers_satchell(b: Bars) -> Series:
    return _range_mean(b, lambda o, h, low, c: (h - c) * (h - o) + (low - c) * (low - o))


def _yang_zhang(b: Bars) -> Series:
    k = 0.34 / (1.34 + 21 / 19)
    return np.sqrt(
        _std(_overnight(b), 20) ** 2 + k * _std(_intraday(b), 20) ** 2 + (1 - k) * _rogers_satchell(b)
    )


def _ulcer(window: Floats) -> float:
    """Of 27 closes: the drawdown of each of the last 14 from the highest of the 14 that end with it."""
    falls = [window[t] / window[t - 13 : t + 1].max() - 1 for t in range(13, 27)]
    return math.sqrt(np.square(falls).mean())


def _breakout(b: Bars, n: int) -> Series:
    above, below = b.close > _high(b, n).shift(), b.close < _low(b, n).shift()
    return above.astype(float) - below.astype(float)


def _failed_breakout(b: Bars) -> Series:
    top, bottom = _high(b, 20).shift(), _low(b, 20).shift()
    up = (b.high > top) & (b.close <= top)
    down = (b.low < bottom) & (b.close >= bottom)
    return down.astype(float) - up.astype(float)


def _swing(window: Floats, pick: Callable[[Floats], float]) -> tuple[float, int]:
    """Of the 70 bars before today: the last extreme of the 5 bars on either side, and how long it is known.

    Without one among the 60 that could be known: the extreme's candidate, 5 bars ago, known for 60 bars.
    """
    for known in range(60):
        middle = len(window) - 1 - known - 5
        if window[middle] == pick(window[middle - 5 : middle + 6]):
            return float(window[middle]), known
    return float(window[-6]), 60


def _swings(b: Bars) -> pd.DataFrame:
    """Per bar: the last swing high and low, which of them is the newer (1, -1; 0 both), and the leg."""
    high, low = b.high.to_numpy(), b.low.to_numpy()
    rows = []
    for t in range(len(b)):
        if t < 69:
            rows.append((np.nan,) * 3)
            continue
        top, high_known = _swing(high[t - 69 : t + 1], np.max)
        bottom, low_known = _swing(low[t - 69 : t + 1], np.min)
        rows.append((top, bottom, float(np.sign(low_known - high_known))))
    frame = pd.DataFrame(rows, index=b.index, columns=["high", "low", "side"])
    frame["top"], frame["bottom"] = frame[["high", "low"]].max(axis=1), frame[["high", "low"]].min(axis=1)
    return frame


def _retracement(b: Bars) -> Series:
    s = _swings(b)
    place = ((b.close - s.bottom) / (s.top - s.bottom)).clip(-1, 2)
    return (1 - place).where(s.side > 0, place)


def _golden_distance(b: Bars) -> Series:
    s = _swings(b)
    part = (s.top - s.bottom) * (math.sqrt(5) - 1) / 2
    return (b.close - (s.top - part).where(s.side > 0, s.bottom + part)) / _atr(b)


def _pivot(high: Series, low: Series, close: Series) -> Series:
    return ((high + low + close) / 3).shift()


def _variation(window: Floats) -> float:
    return float(window.std(ddof=1) / window.mean())


TALIB: dict[str, Oracle] = {
    **{f"return_{n}": lambda b, n=n: np.log(talib.ROCR(b.close, n)) for n in (1, 2, 3, 5, 10, 20, 60, 120)},
    **{f"sma_ratio_{n}": lambda b, n=n: b.close / talib.SMA(b.close, n) - 1 for n in (5, 10, 20, 50, 200)},
    **{
        f"sma_cross_{m}_{n}": lambda b, m=m, n=n: talib.SMA(b.close, m) / talib.SMA(b.close, n) - 1
        for m, n in ((5, 20), (10, 50), (50, 200))
    },
    "sma_slope_50": lambda b: talib.ROCP(talib.SMA(b.close, 50), 5),
    **{f"ema_ratio_{n}": lambda b, n=n: b.close / talib.EMA(b.close, n) - 1 for n in (20, 40)},
    "wma_ratio_20": lambda b: b.close / talib.WMA(b.close, 20) - 1,
    "dema_ratio_14": lambda b: b.close / talib.DEMA(b.close, 14) - 1,
    "tema_ratio_14": lambda b: b.close / talib.TEMA(b.close, 14) - 1,
    "hull_ratio_20": lambda b: b.close / talib.HMA(b.close, 20) - 1,
    "hull_slope_20": lambda b: talib.ROCP(talib.HMA(b.close, 20), 1),
    "kama_ratio_10": lambda b: b.close / talib.KAMA(b.close, 10) - 1,
    "macd_12_26": lambda b: talib.MACD(b.close, 12, 26, 9)[0] / _atr(b),
    "macd_signal_12_26_9": lambda b: talib.MACD(b.close, 12, 26, 9)[1] / _atr(b),
    "macd_histogram_12_26_9": lambda b: talib.MACD(b.close, 12, 26, 9)[2] / _atr(b),
    "plus_di_14": lambda b: talib.PLUS_DI(b.high, b.low, b.close, 14),
    "minus_di_14": lambda b: talib.MINUS_DI(b.high, b.low, b.close, 14),
    "di_spread_14": lambda b: (
        talib.PLUS_DI(b.high, b.low, b.close, 14) - talib.MINUS_DI(b.high, b.low, b.close, 14)
    ),
    "adx_9": lambda b: talib.ADX(b.high, b.low, b.close, 9),
    "aroon_up_25": lambda b: talib.AROON(b.high, b.low, 25)[1],
    "aroon_down_25": lambda b: talib.AROON(b.high, b.low, 25)[0],
    "aroon_25": lambda b: talib.AROONOSC(b.high, b.low, 25),
    "efficiency_10": lambda b: talib.ER(b.close, 10),
    "ichimoku_conversion_9": lambda b: (b.close - _midpoint(b, 9)) / _atr(b),
    "ichimoku_base_26": lambda b: (b.close - _midpoint(b, 26)) / _atr(b),
    "ichimoku_cloud_position": _ichimoku_position,
    "ichimoku_cloud_thickness": lambda b: (_cloud(b)[0] - _cloud(b)[1]) / _atr(b),
    "ichimoku_cloud_ahead": lambda b: (_cloud(b)[0] - _cloud(b)[1]).shift(-26) / _atr(b),
    "sar_distance": lambda b: (b.close - talib.SAR(b.high, b.low, 0.02, 0.2)) / _atr(b),
    "sar_side": lambda b: np.sign(b.close - talib.SAR(b.high, b.low, 0.02, 0.2)),
    "supertrend_distance_10_3": lambda b: (
        (b.close - talib.SUPERTREND(b.high, b.low, b.close, 10, 3)[0]) / _atr(b, 10)
    ),
    "supertrend_side_10_3": lambda b: talib.SUPERTREND(b.high, b.low, b.close, 10, 3)[1].astype(float),
    "vortex_14": lambda b: np.subtract(*talib.VORTEX(b.high, b.low, b.close, 14)),
    "mass_index_25": lambda b: talib.MASSI(b.high, b.low, 9, 25),
    **{f"rsi_{n}": lambda b, n=n: talib.RSI(b.close, n) for n in (7, 14, 21)},
    "stochastic_14": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[0],
    "stochastic_d_14_3": lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3)[1],
    "stochastic_slow_14_3_3": lambda b: talib.STOCH(b.high, b.low, b.close, 14, 3, 0, 3, 0)[1],
    "stochastic_rsi_14": lambda b: talib.STOCHRSI(b.close, 14, 14, 1)[0],
    "williams_50": lambda b: talib.WILLR(b.high, b.low, b.close, 50),
    "cci_20": lambda b: talib.CCI(b.high, b.low, b.close, 20),
    "cmo_14": lambda b: talib.CMOU(b.close, 14),
    "ultimate_7_14_28": lambda b: talib.ULTOSC(b.high, b.low, b.close, 7, 14, 28),
    "roc_12": lambda b: talib.ROCP(b.close, 12),
    "tsi_25_13": lambda b: talib.TSI(b.close, 25, 13),
    "awesome_5_34": lambda b: talib.AO(b.high, b.low, 5, 34) / _atr(b),
    "accelerator_5_34_5": lambda b: talib.AC(b.high, b.low, 5, 34, 5) / _atr(b),
    "trix_14": lambda b: talib.TRIX(b.close, 14) / 100,
    "ppo_12_26": lambda b: talib.PPO(b.close, 12, 26, 1) / 100,
    "coppock_14_11_10": lambda b: talib.COPPOCK(b.close, 10, 11, 14) / 100,
    "bull_power_13": lambda b: talib.ERI(b.high, b.low, b.close, 13)[0] / _atr(b),
    "bear_power_13": lambda b: talib.ERI(b.high, b.low, b.close, 13)[1] / _atr(b),
    "intraday_momentum_14": lambda b: talib.IMI(b.open, b.close, 14),
    "atr_ratio_14": lambda b: talib.NATR(b.high, b.low, b.close, 14) / 100,
    "keltner_position_20": lambda b: (b.close - talib.EMA(b.close, 20)) / _atr(b) / 4 + 0.5,
    "chaikin_volatility_10": lambda b: 1 - 2 / (talib.CVI(b.high, b.low, 10, 10) / 100 + 2),
    "pivot_distance": lambda b: (b.close - talib.TYPPRICE(b.high, b.low, b.close).shift()) / _atr(b),
    "resistance_distance": lambda b: (
        (b.close - (2 * _pivot(b.high, b.low, b.close) - b.low.shift())) / _atr(b)
    ),
    "support_distance": lambda b: (b.close - (2 * _pivot(b.high, b.low, b.close) - b.high.shift())) / _atr(b),
    "pivot_distance_5": lambda b: (b.close - _pivot(_high(b, 5), _low(b, 5), b.close)) / _atr(b),
    "swing_high_distance_5": lambda b: (b.close - _swings(b).high) / _atr(b),
    "swing_low_distance_5": lambda b: (b.close - _swings(b).low) / _atr(b),
    "fibonacci_618_distance_5": _golden_distance,
}
# what has no seed, or the one that we state: compared from the first value on
OTHERS: dict[str, Oracle] = {
    "momentum_250_20": lambda b: np.log(b.close.shift(20) / b.close.shift(250)),
    "gap": _overnight,
    "intraday_return": _intraday,
    "overnight_return_20": lambda b: _rolling(math.fsum, 20, _overnight(b)),
    "zscore_close_50": lambda b: _zscore(b.close, 50),
    "zscore_return_20": lambda b: _zscore(_returns(b), 20),
    **{f"rank_close_{n}": lambda b, n=n: b.close.rolling(n).rank(pct=True) for n in (20, 60)},
    **{f"range_position_{n}": lambda b, n=n: _position(b, n) for n in (20, 250)},
    "sma_order": lambda b: (
        sum(
            np.sign(b.close.rolling(m).mean() - b.close.rolling(n).mean())
            for m, n in ((5, 20), (20, 50), (50, 200))
        )
        / 3
    ),
    **{f"slope_{n}": lambda b, n=n: _rolling(lambda w: _fit(w)[0], n, np.log(b.close)) for n in (20, 60)},
    **{f"rsquare_{n}": lambda b, n=n: _rolling(lambda w: _fit(w)[1], n, np.log(b.close)) for n in (20, 60)},
    "residual_20": lambda b: (b.close - _rolling(lambda w: _fit(w)[2], 20, b.close)) / _std(b.close, 20),
    **{f"momentum_sharpe_{n}": lambda b, n=n: _mean(_returns(b), n) / _std(_returns(b), n) for n in (20, 60)},
    "up_share_20": lambda b: _mean(np.sign(b.close.diff()) / 2 + 0.5, 20),
    "range_ratio_5_20": lambda b: _mean(_true_range(b), 5) / _mean(_true_range(b), 20),
    "range_zscore_20": lambda b: _zscore(np.log(b.high / b.low), 20),
    "bollinger_position_20": lambda b: (
        (b.close - _mean(b.close, 20) + 2 * _std(b.close, 20)) / (4 * _std(b.close, 20))
    ),
    "bollinger_width_20": lambda b: 4 * _std(b.close, 20) / _mean(b.close, 20),
    "squeeze_20": lambda b: _std(b.close, 20) * 2 / (_mean(_true_range(b), 20) * 1.5),
    "donchian_position_55": lambda b: _position(b, 55),
    "donchian_width_20": lambda b: np.log(_high(b, 20) / _low(b, 20)),
    **{f"realised_{n}": lambda b, n=n: _std(_returns(b), n) for n in (5, 20, 60)},
    "ewma_volatility_32": lambda b: np.sqrt((_returns(b) ** 2).ewm(span=32, adjust=False).mean()),
    "parkinson_20": lambda b: np.sqrt(_range_mean(b, lambda o, h, low, c: (h - low) ** 2) / (4 * np.log(2))),
    "garman_klass_20": lambda b: np.sqrt(
        _range_mean(b, lambda o, h, low, c: (h - low) ** 2 / 2 - (2 * np.log(2) - 1) * (c - o) ** 2)
    ),
    "rogers_satchell_20": lambda b: np.sqrt(_rogers_satchell(b)),
    "yang_zhang_20": _yang_zhang,
    "semi_deviation_20": lambda b: np.sqrt(_mean(_returns(b).clip(upper=0) ** 2, 20)),
    **{
        f"volatility_ratio_{m}_{n}": lambda b, m=m, n=n: _std(_returns(b), m) / _std(_returns(b), n)
        for m, n in ((5, 20), (20, 60))
    },
    "volatility_zscore_20_60": lambda b: _zscore(_std(_returns(b), 20), 60),
    "volatility_of_volatility_10_20": lambda b: _rolling(_variation, 20, _std(_returns(b), 10)),
    "downside_share_20": lambda b: _mean(_returns(b).clip(upper=0) ** 2, 20) / _mean(_returns(b) ** 2, 20),
    "overnight_share_20": lambda b: (
        _mean(_overnight(b) ** 2, 20) / _mean(_overnight(b) ** 2 + _intraday(b) ** 2, 20)
    ),
    "ulcer_14": lambda b: _rolling(_ulcer, 27, b.close),
    "choppiness_14": lambda b: (
        100 * np.log10(_rolling(math.fsum, 14, _true_range(b)) / (_high(b, 14) - _low(b, 14))) / np.log10(14)
    ),
    **{f"from_high_{n}": lambda b, n=n: b.close / _high(b, n) - 1 for n in (20, 250)},
    **{f"from_low_{n}": lambda b, n=n: b.close / _low(b, n) - 1 for n in (20, 250)},
    "since_high_60": lambda b: _rolling(lambda w: np.argmax(w[::-1]) / 60, 60, b.high),
    "since_low_60": lambda b: _rolling(lambda w: np.argmin(w[::-1]) / 60, 60, b.low),
    **{f"breakout_{n}": lambda b, n=n: _breakout(b, n) for n in (20, 55)},
    "failed_breakout_20": _failed_breakout,
    "swing_side_5": lambda b: _swings(b).side,
    "fibonacci_retracement_5": _retracement,
}
ORACLES = TALIB | OTHERS


@pytest.fixture(scope="module")
def values(sp500: Bars) -> Bars:
    """Every feature under test over the real index."""
    return features.build(sp500, {feature.name: feature.expression for feature in FEATURES})


def test_every_feature_of_prices_has_an_oracle():
    assert sorted(ORACLES) == sorted(feature.name for feature in FEATURES)


@pytest.mark.parametrize("name", ORACLES)
def test_feature_agrees_with_its_oracle(name, values, sp500):
    actual = values[name]
    start = SETTLED if name in TALIB else features.warmup({name: features.definitions()[name]})
    expected = ORACLES[name](sp500)
    _agree(actual.iloc[start:], expected.iloc[start:])


def _agree(actual: Series, expected: Series) -> None:
    floor = float(np.nanmax(np.abs(expected))) * 1e-3
    error = (actual - expected).abs() / np.maximum(expected.abs(), floor)
    assert actual.notna().all()
    assert error.max() <= 1e-9


def _adaptive(x: Series, weight: Series) -> Series:
    out, average = [], math.nan
    for value, alpha in zip(x, weight, strict=True):
        if not math.isnan(value + alpha):
            average = value if math.isnan(average) else alpha * value + (1 - alpha) * average
        out.append(average)
    return Series(out, index=x.index)


def _value_when(condition: Series, x: Series, window: int) -> Series:
    def latest(flags: Floats, values: Floats) -> float:
        if np.isnan(flags).any() or np.isnan(values).any():
            return math.nan
        events = np.flatnonzero(flags)
        return float(values[events[-1]] if len(events) else values[-1])

    return _rolling(latest, window, condition, x)


_BIG_RANGE = "close - low > (high - low) * 0.98"
OPERATOR_ORACLES: dict[str, tuple[str, Oracle, int]] = {
    "adaptive": (
        "adaptive(close, (close - low) / (high - low), 40)",
        lambda b: _adaptive(b.close, (b.close - b.low) / (b.high - b.low)),
        0,
    ),
    "sar": ("sar(high, low, 0.03, 0.17)", lambda b: talib.SAR(b.high, b.low, 0.03, 0.17), SETTLED),
    "supertrend": (
        "supertrend(median_price, atr(7), close, 2.5)",
        lambda b: talib.SUPERTREND(b.high, b.low, b.close, 7, 2.5)[0],
        SETTLED,
    ),
    "value_when": (
        f"value_when({_BIG_RANGE}, open, 30)",
        lambda b: _value_when(b.close - b.low > (b.high - b.low) * 0.98, b.open, 30),
        29,
    ),
}


@pytest.mark.parametrize("name", OPERATOR_ORACLES)
def test_operator_agrees_with_its_oracle(name, sp500):
    text, oracle, start = OPERATOR_ORACLES[name]
    start = max(start, features.warmup({name: text}))
    _agree(features.build(sp500, {name: text})[name].iloc[start:], oracle(sp500).iloc[start:])


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("value_when(close > open, {x}, 5)", lambda b, x: _value_when(b.close > b.open, x, 5)),
        (
            "value_when({x} > 3, open, 5)",
            lambda b, x: _value_when((x > 3).astype(float).where(x.notna()), b.open, 5),
        ),
    ],
)
def test_a_value_at_an_event_is_unknown_while_the_window_holds_an_unknown(text, oracle, sp500):
    bars = sp500.iloc[:1500]
    expected = oracle(bars, np.log((bars.close - 1400).where(bars.close > 1400)))
    actual = features.build(bars, {"x": text.format(x="log(close - 1400)")})["x"]
    assert 100 < expected.notna().sum() < 1400
    pd.testing.assert_series_equal(actual, expected, check_names=False, rtol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "sar({high}, low, 0.02, 0.2)",
        "supertrend({high}, high - low, close, 2)",
        "adaptive({high}, (close - low) / (high - low), 20)",
        "adaptive((close - low) / (high - low), {high} / 10000, 20)",
    ],
)
def test_unknown_inputs_leave_the_memory_of_a_recursion_as_it_was(text, sp500):
    rising = sp500[sp500.close > sp500.open]
    holes = features.build(sp500, {"x": text.format(high="(high / (close > open))")})["x"]
    assert holes[sp500.close <= sp500.open].isna().all()
    whole = features.build(rising, {"x": text.format(high="high")})["x"].iloc[SETTLED:]
    pd.testing.assert_series_equal(holes[whole.index], whole, check_exact=True)


@pytest.mark.parametrize(
    "text",
    [
        "sar(high, low, 0.02, 0.2)",
        "sar(high, low, 0.05, 0.2)",
        "supertrend(median_price, high - low, close, 1)",
        "supertrend(median_price, mean(true_range, 10), close, 3)",
        "kama(close, 10)",
    ],
)
def test_streams_begun_elsewhere_agree_after_the_nominal_warmup(text, sp500):
    warmup, whole = features.warmup({"x": text}), features.build(sp500, {"x": text})["x"]
    assert warmup <= 300
    for start in range(7, 3600, 31):
        later = features.build(sp500.iloc[start : start + warmup + 60], {"x": text})["x"].iloc[warmup:]
        np.testing.assert_allclose(later, whole.loc[later.index], rtol=1e-6)

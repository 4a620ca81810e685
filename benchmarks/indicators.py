"""The same indicators three times over: as expressions, by TA-Lib, and as one writes them in pandas."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import talib

Rival = Callable[[pd.DataFrame], object]


@dataclass(frozen=True)
class Indicator:
    """An expression and what its rivals call; None where a rival lacks it.

    `applied`: pandas has no function for it, and calls one of Python for every window (`rolling.apply`).
    """

    expression: str
    talib: Rival | None
    pandas: Rival | None
    applied: bool = False


def _wilder(x: pd.Series, n: int) -> pd.Series:
    return x.ewm(alpha=1 / n, adjust=False).mean()


def _ema(x: pd.Series, n: int) -> pd.Series:
    return x.ewm(span=n, adjust=False).mean()


def _typical(b: pd.DataFrame) -> pd.Series:
    return (b.high + b.low + b.close) / 3


def _true_range(b: pd.DataFrame) -> pd.Series:
    before = b.close.shift(1)
    return np.maximum(b.high, before) - np.minimum(b.low, before)


def _rsi(x: pd.Series, n: int) -> pd.Series:
    change = x.diff()
    return 100 * _wilder(change.clip(lower=0), n) / _wilder(change.abs(), n)


def _di(b: pd.DataFrame, n: int) -> tuple[pd.Series, pd.Series]:
    up, down = b.high.diff(), -b.low.diff()
    spread = _wilder(_true_range(b), n)
    plus = up.clip(lower=0).where(up > down, 0.0)
    minus = down.clip(lower=0).where(down > up, 0.0)
    return 100 * _wilder(plus, n) / spread, 100 * _wilder(minus, n) / spread


def _dx(b: pd.DataFrame, n: int) -> pd.Series:
    plus, minus = _di(b, n)
    return 100 * (plus - minus).abs() / (plus + minus)


def _stochastic(b: pd.DataFrame, n: int) -> pd.Series:
    low, high = b.low.rolling(n).min(), b.high.rolling(n).max()
    return 100 * (b.close - low) / (high - low)


def _ultimate(b: pd.DataFrame) -> pd.Series:
    pressure = b.close - np.minimum(b.low, b.close.shift(1))
    spread = _true_range(b)
    part = [pressure.rolling(n).sum() / spread.rolling(n).sum() for n in (7, 14, 28)]
    return (4 * part[0] + 2 * part[1] + part[2]) * (100 / 7)


def _mfi(b: pd.DataFrame, n: int) -> pd.Series:
    typical = _typical(b)
    flow = np.sign(typical.diff()) * typical * b.volume
    return 100 * flow.clip(lower=0).rolling(n).sum() / flow.abs().rolling(n).sum()


def _linear(window: np.ndarray) -> float:
    return float(np.dot(window, np.arange(1.0, 21.0)) / 210.0)


def _cci(typical: pd.Series, n: int) -> pd.Series:
    spread = typical.rolling(n).apply(lambda w: np.abs(w - w.mean()).mean(), raw=True)
    return (typical - typical.rolling(n).mean()) / (0.015 * spread)


def _slope(x: pd.Series, n: int) -> pd.Series:
    at = pd.Series(np.arange(len(x), dtype=float), x.index)
    return x.rolling(n).cov(at) / at.rolling(n).var()


def _macd(x: pd.Series) -> pd.Series:
    return _ema(x, 12) - _ema(x, 26)


INDICATORS = (
    *(
        Indicator(
            f"mean(close, {n})",
            lambda b, n=n: talib.SMA(b.close, n),
            lambda b, n=n: b.close.rolling(n).mean(),
        )
        for n in (5, 20, 50, 200)
    ),
    *(
        Indicator(f"ema(close, {n})", lambda b, n=n: talib.EMA(b.close, n), lambda b, n=n: _ema(b.close, n))
        for n in (12, 26, 50)
    ),
    Indicator(
        "wma(close, 20)",
        lambda b: talib.WMA(b.close, 20),
        lambda b: b.close.rolling(20).apply(_linear, raw=True),
        applied=True,
    ),
    Indicator(
        "dema(close, 20)",
        lambda b: talib.DEMA(b.close, 20),
        lambda b: 2 * _ema(b.close, 20) - _ema(_ema(b.close, 20), 20),
    ),
    Indicator("tema(close, 20)", lambda b: talib.TEMA(b.close, 20), None),
    Indicator("kama(close, 10)", lambda b: talib.KAMA(b.close, 10), None),
    Indicator("std(close, 20)", lambda b: talib.STDDEV(b.close, 20), lambda b: b.close.rolling(20).std()),
    Indicator(
        "mean(close, 20) + 2 * std(close, 20)",
        lambda b: talib.BBANDS(b.close, 20),
        lambda b: b.close.rolling(20).mean() + 2 * b.close.rolling(20).std(),
    ),
    *(
        Indicator(
            f"highest(high, {n})",
            lambda b, n=n: talib.MAX(b.high, n),
            lambda b, n=n: b.high.rolling(n).max(),
        )
        for n in (20, 55)
    ),
    *(
        Indicator(
            f"lowest(low, {n})", lambda b, n=n: talib.MIN(b.low, n), lambda b, n=n: b.low.rolling(n).min()
        )
        for n in (20, 55)
    ),
    Indicator("midpoint(14)", lambda b: talib.MIDPRICE(b.high, b.low, 14), None),
    Indicator("roc(close, 10)", lambda b: talib.ROCP(b.close, 10), lambda b: b.close / b.close.shift(10) - 1),
    Indicator("delta(close, 10)", lambda b: talib.MOM(b.close, 10), lambda b: b.close.diff(10)),
    *(
        Indicator(f"rsi(close, {n})", lambda b, n=n: talib.RSI(b.close, n), lambda b, n=n: _rsi(b.close, n))
        for n in (7, 14)
    ),
    Indicator(
        "stochastic(14)",
        lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 1),
        lambda b: _stochastic(b, 14),
    ),
    Indicator(
        "mean(stochastic(14), 3)",
        lambda b: talib.STOCHF(b.high, b.low, b.close, 14, 3),
        lambda b: _stochastic(b, 14).rolling(3).mean(),
    ),
    Indicator(
        "stochastic(14) - 100",
        lambda b: talib.WILLR(b.high, b.low, b.close, 14),
        lambda b: _stochastic(b, 14) - 100,
    ),
    Indicator(
        "cci(20)",
        lambda b: talib.CCI(b.high, b.low, b.close, 20),
        lambda b: _cci(_typical(b), 20),
        applied=True,
    ),
    Indicator(
        "(ultimate(7) * 4 + ultimate(14) * 2 + ultimate(28)) * (100 / 7)",
        lambda b: talib.ULTOSC(b.high, b.low, b.close),
        _ultimate,
    ),
    Indicator(
        "macd(close, 12, 26)",
        lambda b: talib.APO(b.close, 12, 26, 1),
        lambda b: _macd(b.close),
    ),
    Indicator(
        "macd(close, 12, 26) - ema(macd(close, 12, 26), 9)",
        lambda b: talib.MACD(b.close, 12, 26, 9),
        lambda b: _macd(b.close) - _ema(_macd(b.close), 9),
    ),
    Indicator(
        "delta(ema(ema(ema(close, 15), 15), 15), 1)",
        lambda b: talib.TRIX(b.close, 15),
        lambda b: _ema(_ema(_ema(b.close, 15), 15), 15).diff(),
    ),
    Indicator("true_range", lambda b: talib.TRANGE(b.high, b.low, b.close), _true_range),
    Indicator(
        "atr(14)",
        lambda b: talib.ATR(b.high, b.low, b.close, 14),
        lambda b: _wilder(_true_range(b), 14),
    ),
    Indicator(
        "atr(14) / close",
        lambda b: talib.NATR(b.high, b.low, b.close, 14),
        lambda b: _wilder(_true_range(b), 14) / b.close,
    ),
    Indicator("plus_di(14)", lambda b: talib.PLUS_DI(b.high, b.low, b.close, 14), lambda b: _di(b, 14)[0]),
    Indicator("minus_di(14)", lambda b: talib.MINUS_DI(b.high, b.low, b.close, 14), lambda b: _di(b, 14)[1]),
    Indicator("dx(14)", lambda b: talib.DX(b.high, b.low, b.close, 14), lambda b: _dx(b, 14)),
    Indicator(
        "wilder(dx(14), 14)",
        lambda b: talib.ADX(b.high, b.low, b.close, 14),
        lambda b: _wilder(_dx(b, 14), 14),
    ),
    Indicator(
        "(bars_since_lowest(low, 26) - bars_since_highest(high, 26)) * 4",
        lambda b: talib.AROONOSC(b.high, b.low, 25),
        lambda b: (
            (b.high.rolling(26).apply(np.argmax, raw=True) - b.low.rolling(26).apply(np.argmin, raw=True)) * 4
        ),
        applied=True,
    ),
    Indicator(
        "slope(close, 20)", lambda b: talib.LINEARREG_SLOPE(b.close, 20), lambda b: _slope(b.close, 20)
    ),
    Indicator("forecast(close, 20)", lambda b: talib.LINEARREG(b.close, 20), None),
    Indicator(
        "corr(high, low, 30)",
        lambda b: talib.CORREL(b.high, b.low, 30),
        lambda b: b.high.rolling(30).corr(b.low),
    ),
    Indicator(
        "ratio(sum(max(money_flow, 0), 14), sum(abs(money_flow), 14), 0.5) * 100",
        lambda b: talib.MFI(b.high, b.low, b.close, b.volume, 14),
        lambda b: _mfi(b, 14),
    ),
    Indicator(
        "ratio(close - open, high - low, 0)",
        lambda b: talib.BOP(b.open, b.high, b.low, b.close),
        lambda b: (b.close - b.open) / (b.high - b.low),
    ),
    Indicator("typical", lambda b: talib.TYPPRICE(b.high, b.low, b.close), _typical),
    Indicator("skew(close, 60)", None, lambda b: b.close.rolling(60).skew()),
    Indicator("kurt(close, 60)", None, lambda b: b.close.rolling(60).kurt()),
    Indicator("rank(close, 60)", None, lambda b: b.close.rolling(60).rank(pct=True)),
    Indicator("quantile(close, 60, 0.8)", None, lambda b: b.close.rolling(60).quantile(0.8)),
)

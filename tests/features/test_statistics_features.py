"""Volume, statistics, microstructure, candle, calendar and regime features, and their operators.

Against TA-Lib where it has them, else scipy, statsmodels, pandas or a plain loop.
"""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib
from scipy import stats
from statsmodels.tsa.stattools import adfuller

import features
from features.catalogue import calendar, candle, compiled, microstructure, regime, statistics, volume
from features.operators.information import memory
from features.probes import missing

Floats = npt.NDArray[np.float64]
Series = pd.Series
Bars = pd.DataFrame
Oracle = Callable[[Bars], Series]
FEATURES = [
    f for each in (volume, statistics, microstructure, candle, calendar, regime) for f in each.FEATURES
]
# long enough for TA-Lib's other seed of a recursion to be forgotten below the tolerance
SETTLED = 2000


@pytest.fixture(scope="module")
def intraday(sp500):
    """The index's bars as half hours: sessions of 4 to 9 bars on 200 weekdays, the first one cut."""
    days = pd.bdate_range("2019-11-20", periods=200)
    times = [
        day + pd.Timedelta(hours=14.5 + 0.5 * bar)
        for k, day in enumerate(days)
        for bar in range(1, 5 + k % 6)
    ]
    index = pd.DatetimeIndex(times[2:], tz="UTC", name="timestamp")
    return sp500.iloc[: len(index)].set_index(index)


def _windows(x: Series, n: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(np.asarray(x, dtype=float), n)


def _rolling(function: Callable[..., Floats], n: int, *columns: Series) -> Series:
    """`function` of [T, n] windows, one row per bar from the n-th on."""
    out = np.full(len(columns[0]), np.nan)
    out[n - 1 :] = function(*(_windows(column, n) for column in columns))
    return Series(out, index=columns[0].index)


def _each(function: Callable[..., float], n: int, *columns: Series) -> Series:
    """The same for a function of single windows; a missing value inside makes the result missing."""

    def over(*windows: Floats) -> Floats:
        return np.array(
            [
                math.nan if any(np.isnan(w).any() for w in row) else function(*row)
                for row in zip(*windows, strict=True)
            ]
        )

    return _rolling(over, n, *columns)


def _mean(x: Series, n: int) -> Series:
    return _rolling(lambda w: w.mean(axis=1), n, x)


def _sum(x: Series, n: int) -> Series:
    return _rolling(lambda w: w.sum(axis=1), n, x)


def _std(x: Series, n: int) -> Series:
    return _rolling(lambda w: w.std(axis=1, ddof=1), n, x)


def _highest(x: Series, n: int) -> Series:
    return _rolling(lambda w: w.max(axis=1), n, x)


def _zscore(x: Series, n: int) -> Series:
    return (x - _mean(x, n)) / _std(x, n)


def _corr(x: Series, y: Series, n: int) -> Series:
    return _each(lambda a, b: float(np.corrcoef(a, b)[0, 1]), n, x, y)


def _regress(y: Series, x: Series, n: int) -> Series:
    return _each(lambda a, b: float(stats.linregress(b, a).slope), n, y, x)


def _returns(b: Bars, n: int = 1) -> Series:
    return np.log(b.close / b.close.shift(n))


def _ewm(x: Series, n: int) -> Series:
    return x.ewm(span=n, adjust=False).mean()


def _wilder(x: Series, n: int) -> Series:
    return x.ewm(alpha=1 / n, adjust=False).mean()


def _atr(b: Bars) -> Series:
    return _wilder(talib.TRANGE(b.high, b.low, b.close), 14)


def _typical(b: Bars) -> Series:
    return talib.TYPPRICE(b.high, b.low, b.close)


def _signed(b: Bars) -> Series:
    return talib.OBV(b.close, b.volume).diff()


def _location(b: Bars) -> Series:
    return (2 * b.close - b.high - b.low) / (b.high - b.low)


def _body(b: Bars) -> Series:
    return (b.close - b.open) / (b.high - b.low)


def _upper(b: Bars) -> Series:
    return (b.high - b[["open", "close"]].max(axis=1)) / (b.high - b.low)


def _lower(b: Bars) -> Series:
    return (b[["open", "close"]].min(axis=1) - b.low) / (b.high - b.low)


def _bulk(b: Bars) -> Series:
    z = _returns(b) / _std(_returns(b), 60)
    return Series(2 * stats.norm.cdf(z) - 1, b.index)


def _vwap(b: Bars, weight: Callable[[Series], Series]) -> Series:
    return b.close / (weight(_typical(b) * b.volume) / weight(b.volume)) - 1


def _since(x: Series, key: Series, n: int) -> Series:
    """Sum of x from the latest highest key of n bars on."""
    return _each(lambda a, k: float(a[n - 1 - int(np.argmax(k[::-1])) :].sum()), n, x, key)


def _session(b: Bars) -> pd.Index:
    return (b.index - pd.Timedelta(nanoseconds=1)).date


def _month(b: Bars) -> pd.Index:
    return (b.index - pd.Timedelta(nanoseconds=1)).strftime("%Y-%m")


def _whole(x: Series, key: pd.Index, missing: int = 1) -> Series:
    """Without what belongs to the first groups, which history may not hold whole."""
    return x.where(pd.factorize(key)[0] >= missing)


def _grouped(x: Series, key: pd.Index, how: str) -> Series:
    return _whole(getattr(x.groupby(key), how)(), key)


def _nvi(b: Bars) -> Series:
    index = [1.0]
    for t in range(1, len(b)):
        falls = b.volume.iloc[t] < b.volume.iloc[t - 1]
        index.append(index[-1] * (b.close.iloc[t] / b.close.iloc[t - 1] if falls else 1.0))
    line = np.log(Series(index, b.index))
    return line - line.shift(20)


def _klinger(b: Bars) -> Series:
    force = np.sign(_typical(b).diff()) * b.volume
    return (_ewm(force, 21) - _ewm(force, 34)) / _mean(b.volume, 20)


def _ease(b: Bars) -> Series:
    moved = (b.high + b.low).diff() / 2
    box = b.volume / _mean(b.volume, 20) / (b.high - b.low)
    return _mean(moved / box / _atr(b) ** 2, 14)


def _twiggs(b: Bars) -> Series:
    top, bottom = np.maximum(b.high, b.close.shift()), np.minimum(b.low, b.close.shift())
    flow = b.volume * (2 * b.close - top - bottom) / (top - bottom)
    return _wilder(flow, 21) / _wilder(b.volume, 21).where(flow.notna())


def _illiquidity(b: Bars) -> Series:
    return _returns(b).abs() / (b.close * b.volume)


def _ljung_box(b: Bars) -> Series:
    r = _returns(b)
    return 60 * 62 * sum(_corr(r, r.shift(lag), 60) ** 2 / (60 - lag) for lag in (1, 2, 3))


def _variance_ratio(b: Bars, lag: int, n: int) -> Series:
    return _std(_returns(b, lag), n) ** 2 / (lag * _std(_returns(b), n) ** 2)


def _hurst(b: Bars) -> Series:
    lags = [1, 2, 4, 8, 16]
    deviations = np.log(np.array([_std(_returns(b, lag), 120) for lag in lags]))
    slopes = np.full(len(b), np.nan)
    slopes[135:] = np.polyfit(np.log(lags), deviations[:, 135:], 1)[0]
    return Series(slopes, b.index)


def _entropy(symbols: Series, n: int, most: int) -> Series:
    def one(window: Floats) -> float:
        return float(stats.entropy(list(Counter(window).values()), base=most))

    return _each(one, n, symbols)


def _binned(b: Bars) -> Series:
    z = _returns(b) / _std(_returns(b), 60)
    edges = np.round(stats.norm.ppf([0.2, 0.4, 0.6, 0.8]), 4)
    return Series(np.searchsorted(edges, z), b.index).where(z.notna())


def _orders(b: Bars) -> Series:
    rows = [(math.nan,) * 3] * 2 + [tuple(b.close.iloc[t - 2 : t + 1]) for t in range(2, len(b))]
    codes = {order: k for k, order in enumerate(sorted({_order(row) for row in rows[2:]}))}
    return Series([math.nan] * 2 + [codes[_order(row)] for row in rows[2:]], b.index, dtype=float)


def _order(row: tuple[float, ...]) -> tuple[bool, ...]:
    return row[1] > row[0], row[2] > row[1], row[2] > row[0]


def _fractional_weights(order: float, threshold: float) -> Floats:
    """By the binomial series: w_k = (-1)^k C(order, k), newest first."""
    weights: list[float] = []
    while not weights or abs(weights[-1]) >= threshold:
        k = len(weights)
        weights.append((-1) ** k * math.prod((order - i) / (i + 1) for i in range(k)))
    return np.array(weights[:-1])


def _fractional(x: Series, order: float, threshold: float, demeaned: bool) -> Series:
    weights = _fractional_weights(order, threshold)[::-1]

    def one(windows: Floats) -> Floats:
        return (windows - windows.mean(axis=1, keepdims=True) * demeaned) @ weights

    return _rolling(one, len(weights), x)


def _fall(x: Series, n: int) -> Series:
    return _rolling(lambda w: (np.maximum.accumulate(w, axis=1) - w).max(axis=1), n, x)


def _tail_balance(b: Bars) -> Series:
    r, edge = _returns(b), _std(_returns(b), 60)
    above = _sum((r - edge).clip(lower=0).where(edge.notna()), 60)
    below = _sum((-r - edge).clip(lower=0).where(edge.notna()), 60)
    return (above - below) / (above + below)


def _jump_share(b: Bars) -> Series:
    r = _returns(b).abs()
    bipower = math.pi / 2 * _mean(r * r.shift(), 20)
    return (1 - bipower / _mean(r**2, 20)).clip(lower=0)


def _corwin_schultz(b: Bars) -> Series:
    """Equations 14 and 18 of the paper, negative spreads set to 0."""
    k = 3 - 2 * math.sqrt(2)
    beta = np.log(b.high / b.low) ** 2 + np.log(b.high / b.low).shift() ** 2
    gamma = np.log(b.high.rolling(2).max() / b.low.rolling(2).min()) ** 2
    alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    return _mean((2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))).clip(lower=0), 20)


def _abdi_ranaldo(b: Bars) -> Series:
    c, middle = np.log(b.close), (np.log(b.high) + np.log(b.low)) / 2
    squared = 4 * _mean((c.shift() - middle.shift()) * (c.shift() - middle), 20)
    return np.sqrt(squared.clip(lower=0))


def _roll(b: Bars) -> Series:
    r = _returns(b)
    covariance = _each(lambda x, y: float(np.cov(x, y)[0, 1]), 60, r, r.shift())
    return 2 * np.sqrt((-covariance).clip(lower=0))


def _overlap(b: Bars) -> Series:
    both = np.minimum(b.high, b.high.shift()) - np.maximum(b.low, b.low.shift())
    either = b.high.rolling(2).max() - b.low.rolling(2).min()
    return both.clip(lower=0) / either


def _run(x: Series, n: int) -> Series:
    """Bars for which x has kept its value, at most n."""
    return x.groupby((x != x.shift()).cumsum()).cumcount().add(1).clip(upper=n).where(x.shift(n - 1).notna())


def _streak(b: Bars) -> Series:
    color = np.sign(b.close - b.open)
    return color * _run(color, 10) / 10


def _circle(x: Series | pd.Index, period: float, function: Callable[..., Floats], b: Bars) -> Series:
    return Series(function(2 * np.pi * np.asarray(x, dtype=float) / period), b.index)


def _hours(b: Bars) -> pd.Index:
    return b.index.hour + b.index.minute / 60


def _pause(b: Bars) -> Series:
    waited = b.index.to_series().diff().dt.total_seconds()
    return (waited > 1.5 * waited.rolling(20).min()).astype(float)


def _elapsed(b: Bars) -> Series:
    seconds = Series(b.index.asi8 / 1e9, b.index)
    return _whole((seconds - seconds.groupby(_session(b)).transform("first")) / 86400, _session(b))


def _session_share(b: Bars) -> Series:
    counts = Series(1.0, b.index).groupby(_session(b)).cumsum()
    lengths = counts.groupby(_session(b)).last().shift()
    before = Series(lengths.loc[list(_session(b))].to_numpy(), b.index)
    return _whole((counts / before).clip(upper=1), _session(b), missing=2)


def _session_position(b: Bars) -> Series:
    top, bottom = _grouped(b.high, _session(b), "cummax"), _grouped(b.low, _session(b), "cummin")
    return (b.close - bottom) / (top - bottom)


def _first(x: Series, b: Bars) -> Series:
    return _whole(x.groupby(_session(b)).transform("first"), _session(b))


def _flag(x: Series, defined: Series) -> Series:
    return x.astype(float).where(defined.notna())


def _volatility_rank(b: Bars) -> Series:
    return _std(_returns(b), 20).rolling(120).rank(pct=True)


def _above(b: Bars) -> Series:
    return _flag(b.close > _mean(b.close, 200), _mean(b.close, 200))


def _volatile(b: Bars) -> Series:
    deviation = _std(_returns(b), 20)
    return _flag(deviation > _mean(deviation, 60), _mean(deviation, 60))


ON_SETTLED: dict[str, Oracle] = {
    "zero_return_share_20": lambda b: _mean(_flag(_returns(b) == 0, _returns(b)), 20),
    "pvo_12_26": lambda b: talib.PPO(b.volume, 12, 26, matype=talib.MA_Type.EMA) / 100,
    "chaikin_oscillator_3_10": lambda b: (
        talib.ADOSC(b.high, b.low, b.close, b.volume, 3, 10) / talib.SMA(b.volume, 20)
    ),
    "mfi_14": lambda b: talib.MFI(b.high, b.low, b.close, b.volume, 14),
    "obv_slope_20": lambda b: talib.OBV(b.close, b.volume).diff(20) / talib.SUM(b.volume, 20),
    "obv_zscore_20": lambda b: _zscore(talib.OBV(b.close, b.volume), 20),
    "obv_zscore_60": lambda b: _zscore(talib.OBV(b.close, b.volume), 60),
    "ad_zscore_20": lambda b: _zscore(talib.AD(b.high, b.low, b.close, b.volume), 20),
    "trending": lambda b: (talib.ADX(b.high, b.low, b.close, 9) > 25).astype(float),
    "range_atr_14": lambda b: (b.high - b.low) / talib.ATR(b.high, b.low, b.close, 14),
    "gap_atr_14": lambda b: (b.open - b.close.shift()) / talib.ATR(b.high, b.low, b.close, 14),
}
ON_DAYS: dict[str, Oracle] = {
    "volume_ratio_20": lambda b: b.volume / _mean(b.volume, 20),
    "volume_ratio_5_20": lambda b: _mean(b.volume, 5) / _mean(b.volume, 20),
    "volume_zscore_20": lambda b: _zscore(b.volume, 20),
    "volume_zscore_60": lambda b: _zscore(b.volume, 60),
    "volume_rank_60": lambda b: b.volume.rolling(60).rank(pct=True),
    "volume_slope_20": lambda b: (
        _regress(b.volume, Series(np.arange(len(b)), b.index), 20) / _mean(b.volume, 20)
    ),
    "volume_variation_20": lambda b: _std(b.volume, 20) / _mean(b.volume, 20),
    "vpt_zscore_20": lambda b: _zscore((b.close.pct_change() * b.volume).cumsum(), 20),
    "cmf_20": lambda b: _sum(_location(b) * b.volume, 20) / _sum(b.volume, 20),
    "twiggs_21": _twiggs,
    "force_index_2": lambda b: _ewm(b.close.diff() * b.volume, 2) / _mean(b.volume, 20) / _atr(b),
    "force_index_13": lambda b: _ewm(b.close.diff() * b.volume, 13) / _mean(b.volume, 20) / _atr(b),
    "ease_of_movement_14": _ease,
    "klinger_21_34": _klinger,
    "nvi_return_20": _nvi,
    "vwap_distance_20": lambda b: _vwap(b, lambda x: _sum(x, 20)),
    "vwap_distance_high_60": lambda b: _vwap(b, lambda x: _since(x, b.high, 60)),
    "vwap_distance_low_60": lambda b: _vwap(b, lambda x: _since(x, -b.low, 60)),
    "illiquidity_ratio_20_60": lambda b: _mean(_illiquidity(b), 20) / _mean(_illiquidity(b), 60),
    "volume_move_corr_20": lambda b: _corr(_returns(b).abs(), b.volume, 20),
    "return_volume_corr_20": lambda b: _corr(_returns(b), b.volume, 20),
    "skew_20": lambda b: _each(lambda w: stats.skew(w, bias=False), 20, _returns(b)),
    "skew_60": lambda b: _each(lambda w: stats.skew(w, bias=False), 60, _returns(b)),
    "kurtosis_60": lambda b: _each(lambda w: stats.kurtosis(w, bias=False), 60, _returns(b)),
    "abs_autocorrelation_1_60": lambda b: _corr(_returns(b).abs(), _returns(b).abs().shift(), 60),
    "ljung_box_3_60": _ljung_box,
    "own_lag_beta_60": lambda b: _regress(_returns(b), _returns(b).shift(), 60),
    "mean_reversion_60": lambda b: _regress(_returns(b), np.log(b.close).shift(), 60),
    "variance_ratio_5_60": lambda b: _variance_ratio(b, 5, 60),
    "variance_ratio_2_120": lambda b: _variance_ratio(b, 2, 120),
    "variance_ratio_16_120": lambda b: _variance_ratio(b, 16, 120),
    "hurst_120": _hurst,
    "sign_entropy_60": lambda b: _entropy(_flag(_returns(b) > 0, _returns(b)), 60, 2),
    "return_entropy_60": lambda b: _entropy(_binned(b), 60, 5),
    "permutation_entropy_60": lambda b: _entropy(_orders(b), 60, 6),
    "fractional_difference_200": lambda b: _fractional(np.log(b.close), 0.5, 1e-4, demeaned=True),
    "drawdown_60": lambda b: np.log(b.close / _highest(b.close, 60)),
    "max_drawdown_60": lambda b: _fall(np.log(b.close), 60),
    "max_runup_60": lambda b: _fall(-np.log(b.close), 60),
    "tail_balance_60": _tail_balance,
    "largest_move_60": lambda b: _highest(_returns(b).abs(), 60) / _std(_returns(b), 60),
    "jump_share_20": _jump_share,
    "corwin_schultz_20": _corwin_schultz,
    "spread_to_volatility_20": lambda b: _corwin_schultz(b) / _std(_returns(b), 20),
    "abdi_ranaldo_20": _abdi_ranaldo,
    "roll_spread_60": _roll,
    "illiquidity_ratio_5_60": lambda b: _mean(_illiquidity(b), 5) / _mean(_illiquidity(b), 60),
    "kyle_lambda_60": lambda b: _regress(_returns(b), _signed(b), 60) * _mean(b.volume, 60),
    "flow_reversal_60": lambda b: _regress(_returns(b), _signed(b).shift(), 60) * _mean(b.volume, 60),
    "bulk_imbalance": _bulk,
    "bulk_imbalance_20": lambda b: _sum(_bulk(b) * b.volume, 20) / _sum(b.volume, 20),
    "vpin_50": lambda b: _sum(_bulk(b).abs() * b.volume, 50) / _sum(b.volume, 50),
    "flow_persistence_60": lambda b: _corr(_bulk(b) * b.volume, (_bulk(b) * b.volume).shift(), 60),
    "body_imbalance_20": lambda b: _sum(_body(b) * b.volume, 20) / _sum(b.volume, 20),
    "body": _body,
    "upper_shadow": _upper,
    "lower_shadow": _lower,
    "close_location": _location,
    "inside_bar": lambda b: ((b.high <= b.high.shift()) & (b.low >= b.low.shift())).astype(float),
    "outside_bar": lambda b: ((b.high > b.high.shift()) & (b.low < b.low.shift())).astype(float),
    "range_overlap": _overlap,
    "narrow_range_7": lambda b: (b.high - b.low <= (b.high - b.low).rolling(7).min()).astype(float),
    "body_ratio_20": lambda b: (b.close - b.open).abs() / _mean((b.close - b.open).abs(), 20),
    "mean_body_5": lambda b: _mean(_body(b), 5),
    "shadow_balance_10": lambda b: _mean(_lower(b) - _upper(b), 10),
    "streak_10": _streak,
    "weekday_sin": lambda b: _circle(b.index.dayofweek, 7, np.sin, b),
    "weekday_cos": lambda b: _circle(b.index.dayofweek, 7, np.cos, b),
    "month_sin": lambda b: _circle(b.index.month, 12, np.sin, b),
    "month_cos": lambda b: _circle(b.index.month, 12, np.cos, b),
    "year_sin": lambda b: _circle(b.index.dayofyear - 1, 365.2425, np.sin, b),
    "year_cos": lambda b: _circle(b.index.dayofyear - 1, 365.2425, np.cos, b),
    "month_position": lambda b: Series((b.index.day - 1) / (b.index.days_in_month - 1), b.index),
    "turn_of_month": lambda b: Series(
        ((b.index.day <= 4) | (b.index.days_in_month - b.index.day < 2)).astype(float), b.index
    ),
    "volatility_rank_120": _volatility_rank,
    "calm": lambda b: (_volatility_rank(b) <= 0.25).astype(float),
    "stress": lambda b: (_volatility_rank(b) > 0.75).astype(float),
    "volatility_ratio_20_120": lambda b: _std(_returns(b), 20) / _std(_returns(b), 120),
    "turbulence_5_120": lambda b: _mean(_returns(b) ** 2, 5) / _mean(_returns(b) ** 2, 120),
    "volatility_age_60": lambda b: _run(_volatile(b), 60) / 60,
    "net_efficiency_60": lambda b: b.close.diff(60) / _sum(b.close.diff().abs(), 60),
    "trend_state": lambda b: np.sign(_mean(b.close, 50) - _mean(b.close, 200)),
    "above_average_200": _above,
    "above_share_60": lambda b: _mean(_above(b), 60),
    "average_age_60": lambda b: _run(_above(b), 60) / 60,
    "bear_market": lambda b: (b.close <= 0.8 * b.high.rolling(250).max()).astype(float),
} | {
    f"autocorrelation_{lag}_60": lambda b, lag=lag: _corr(_returns(b), _returns(b).shift(lag), 60)
    for lag in (1, 2, 3, 5, 10)
}
ON_SESSIONS: dict[str, Oracle] = {
    "vwap_distance_session": lambda b: _vwap(b, lambda x: _grouped(x, _session(b), "cumsum")),
    "vwap_distance_month": lambda b: _vwap(b, lambda x: _grouped(x, _month(b), "cumsum")),
    "hour_sin": lambda b: _circle(_hours(b), 24, np.sin, b),
    "hour_cos": lambda b: _circle(_hours(b), 24, np.cos, b),
    "after_pause": _pause,
    "session_start": lambda b: Series(~pd.Index(_session(b)).duplicated(), b.index).astype(float),
    "session_elapsed": _elapsed,
    "session_share": _session_share,
    "session_gap": lambda b: _first(np.log(b.open / b.close.shift()), b),
    "session_return": lambda b: np.log(b.close / _first(b.open, b)),
    "session_position": _session_position,
}


def test_every_feature_has_one_oracle():
    tables = [*ON_SETTLED, *ON_DAYS, *ON_SESSIONS]
    assert sorted(tables) == sorted(feature.name for feature in FEATURES)


def _agree(actual: Series, expected: Series, skip: int) -> None:
    actual, expected = actual.iloc[skip:], expected.iloc[skip:]
    assert (actual.isna() == expected.isna()).all()
    assert actual.notna().sum() > 0.8 * len(actual)
    floor = float(np.nanmax(np.abs(expected))) * 1e-3
    error = (actual - expected).abs() / np.maximum(expected.abs(), floor)
    assert error.max() <= 1e-9


def _compare(name: str, bars: Bars, oracle: Oracle, skip: int) -> None:
    definitions = {name: features.definitions()[name]}
    _agree(features.build(bars, definitions)[name], oracle(bars), max(skip, features.warmup(definitions)))


@pytest.mark.parametrize("name", ON_SETTLED)
def test_feature_agrees_with_talib(name, sp500):
    _compare(name, sp500, ON_SETTLED[name], SETTLED)


@pytest.mark.parametrize("name", ON_DAYS)
def test_feature_agrees_with_its_oracle(name, sp500):
    _compare(name, sp500.iloc[:900], ON_DAYS[name], 0)


@pytest.mark.parametrize("name", ON_SESSIONS)
def test_feature_of_sessions_agrees_with_its_oracle(name, intraday):
    _compare(name, intraday, ON_SESSIONS[name], 0)


MONDAY = "day_of_week(time) <= 0"


def _weeks(b: Bars) -> Series:
    return Series(b.index.dayofweek == 0, b.index).cumsum()


ORACLES: dict[str, tuple[str, Oracle]] = {
    "normal_cdf": (
        "normal_cdf((close - 1300) / 90)",
        lambda b: Series(stats.norm.cdf(b.close, 1300, 90), b.index),
    ),
    "tanh": ("tanh(close / 1300 - 1)", lambda b: np.tanh(b.close / 1300 - 1)),
    "cov": (
        "cov(close, volume, 29)",
        lambda b: _each(lambda x, y: float(np.cov(x, y)[0, 1]), 29, b.close, b.volume),
    ),
    "cumulative_zscore": (
        "cumulative_zscore(close - open, 23)",
        lambda b: _zscore((b.close - b.open).cumsum(), 23),
    ),
    "largest_fall": ("largest_fall(close, 45)", lambda b: _fall(b.close, 45)),
    "entropy": (
        "entropy(day_of_week(time), 37, 5)",
        lambda b: _entropy(Series(b.index.dayofweek, b.index), 37, 5) * math.log(5),
    ),
    "fractional_difference": (
        "fractional_difference(log(close), 0.4, 0.0002)",
        lambda b: _fractional(np.log(b.close), 0.4, 2e-4, demeaned=False),
    ),
    "cumulate": (f"cumulate(volume, {MONDAY})", lambda b: b.volume.groupby(_weeks(b)).cumsum()),
    "highest_since": (f"highest_since(high, {MONDAY})", lambda b: b.high.groupby(_weeks(b)).cummax()),
    "before_reset": (
        f"before_reset(close, {MONDAY})",
        lambda b: b.close.shift().groupby(_weeks(b)).transform(lambda x: x.iloc[0]),
    ),
    "sum_since_highest": ("sum_since_highest(volume, high, 31)", lambda b: _since(b.volume, b.high, 31)),
    "run_length": ("run_length(close > open, 4)", lambda b: _run((b.close > b.open).astype(float), 4)),
    "day_of_month": ("day_of_month(time)", lambda b: Series(b.index.day, b.index).astype(float)),
    "days_in_month": ("days_in_month(time)", lambda b: Series(b.index.days_in_month, b.index).astype(float)),
    "month_number": (
        "month_number(time)",
        lambda b: Series(b.index.year * 12 + b.index.month - 1, b.index).astype(float),
    ),
    "day_start": ("day_start(time)", lambda b: Series(b.index.floor("D").asi8 / 1e9, b.index)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_operator_agrees_with_its_oracle(name, sp500):
    text, oracle = ORACLES[name]
    bars = sp500.iloc[:900]
    _agree(features.build(bars, {name: text})[name], oracle(bars), features.warmup({name: text}))


@pytest.mark.parametrize("window", [2, 3, 7, 8, 31, 32, 33, 100])
def test_a_window_of_any_length_holds_exactly_its_values(window, sp500):
    bars = sp500.iloc[:260]
    texts = {
        "cov": f"cov(close, open, {window})",
        "z": f"cumulative_zscore(close - open, {window})",
        "fall": f"largest_fall(close, {window})",
        "since": f"sum_since_highest(volume, high, {window})",
    }
    built = features.build(bars, texts)
    oracles = {
        "cov": _each(lambda x, y: float(np.cov(x, y)[0, 1]), window, bars.close, bars.open),
        "z": _zscore((bars.close - bars.open).cumsum(), window),
        "fall": _fall(bars.close, window),
        "since": _since(bars.volume, bars.high, window),
    }
    for name, oracle in oracles.items():
        np.testing.assert_allclose(
            built[name], oracle, rtol=1e-9, atol=1e-9 * oracle.abs().max(), err_msg=name
        )


def test_neither_a_spike_nor_a_gap_leaves_a_trace(sp500):
    bars, spiked = sp500.iloc[:200], sp500.iloc[:200].copy()
    spiked.iloc[50, :4] *= 1e15
    spiked.iloc[100, 4] = 0.0
    threshold = abs(_fractional_weights(0.5, 1e-4)[19])
    texts = {
        "cov": "cov(close, volume / volume * open, 20)",
        "z": "cumulative_zscore((close - open) * volume / volume, 20)",
        "fall": "largest_fall(close * volume / volume, 20)",
        "since": "sum_since_highest(volume / volume * close, high, 20)",
        "entropy": "entropy((close > open) * volume / volume, 20, 2)",
        "run": "run_length((close > open) * volume / volume, 20)",
        "fractional": f"fractional_difference(close * volume / volume, 0.5, {threshold})",
    }
    before, after = features.build(bars, texts), features.build(spiked, texts)
    assert after.iloc[100:120].isna().all(axis=None)
    for clean in (slice(70, 100), slice(120, 200)):
        assert after.iloc[clean].equals(before.iloc[clean])


@pytest.mark.parametrize(("order", "width"), [(0.4, 282), (0.5, 200), (0.0, 1), (1.0, 2), (2.0, 3)])
def test_the_window_of_a_fractional_difference_ends_at_the_threshold(order, width):
    assert memory(order, 1e-4) == width
    assert features.warmup({"x": f"fractional_difference(close, {order}, 0.0001)"}) == width - 1


def test_the_weights_of_a_fractional_difference(sp500):
    bars = sp500.iloc[:250].assign(open=1.0, high=2.0, low=1.0)
    bars["close"] = np.where(np.arange(250) == 210, 2.0, 1.0)
    response = features.build(bars, {"w": "fractional_difference(close - 1, 0.5, 0.0001)"})["w"]
    np.testing.assert_array_equal(response.iloc[210:215], [1, -0.5, -0.125, -0.0625, -0.0390625])
    np.testing.assert_allclose(response.iloc[210:], _fractional_weights(0.5, 1e-4)[:40], rtol=1e-13)


@pytest.mark.parametrize(("order", "statistic"), [(0.1, -1.7420), (0.2, -3.5456)])
def test_a_little_differencing_makes_the_index_stationary(order, statistic, sp500):
    text = f"fractional_difference(log(close), {order}, 0.0001)"
    series = features.build(sp500, {"x": text})["x"].dropna()
    found = adfuller(series, maxlag=1, regression="c", autolag=None, result_object=True)
    assert found.statistic == pytest.approx(statistic, abs=5e-5)


def test_the_catalogue_takes_out_what_the_weights_sum_to():
    text = features.definitions()["fractional_difference_200"]
    assert float(text.rsplit(" ", 1)[1]) == pytest.approx(_fractional_weights(0.5, 1e-4).sum(), rel=1e-12)


def _anchored(bars: Bars, reset: str) -> pd.DataFrame:
    return features.build(
        bars,
        {
            "sum": f"cumulate(close, {reset})",
            "top": f"highest_since(close, {reset})",
            "before": f"before_reset(close, {reset})",
        },
    )


def _bars(close: list[float], volume: list[float]) -> Bars:
    index = pd.date_range("2020-01-01", periods=len(close), tz="UTC", name="timestamp")
    values = np.array(close, dtype=float)
    frame = {"open": values, "high": values, "low": values, "close": values, "volume": volume}
    return pd.DataFrame(frame, index=index, dtype=float)


def test_what_counts_from_an_anchor_begins_with_it_and_includes_it():
    nan = math.nan
    built = _anchored(_bars([5, 1, 3, 2, 7, 4], [0, 0, 1, 0, 1, 0]), "volume")
    np.testing.assert_array_equal(built["sum"], [nan, nan, 3, 5, 7, 11])
    np.testing.assert_array_equal(built["top"], [nan, nan, 3, 3, 7, 7])
    np.testing.assert_array_equal(built["before"], [nan, nan, 1, 1, 2, 2])


def test_an_unknown_anchor_or_value_is_missing_until_the_next_anchor():
    nan = math.nan
    bars = _bars([5, 1, 3, 2, 7, 4, 6], [1, 2, 4, 2, 1, 2, 2])
    unknown = _anchored(bars, "log(4 - volume) <= 1")  # 1 where volume is 2 or more, NaN where it is 4
    np.testing.assert_array_equal(unknown["sum"], [nan, 1, nan, 2, 9, 4, 6])
    np.testing.assert_array_equal(unknown["top"], [nan, 1, nan, 2, 7, 4, 6])
    np.testing.assert_array_equal(unknown["before"], [nan, 5, nan, 3, 3, 7, 4])
    gap = features.build(bars, {"s": "cumulate(log(close - 1), volume <= 1)"})["s"]
    logs = [math.log(4), nan, nan, nan, math.log(6), math.log(18), math.log(90)]
    np.testing.assert_allclose(gap, logs, rtol=1e-12)


def test_a_session_that_history_cuts_is_missing_and_the_next_is_the_same(intraday):
    definitions = {
        name: text for name, text in features.definitions().items() if "session" in name or "month" in name
    }
    whole, cut = features.build(intraday, definitions), features.build(intraday.iloc[301:], definitions)
    kept = cut["vwap_distance_month"].notna()
    assert 5 < (~kept).sum() < 200
    assert cut[kept].equals(whole.iloc[301:][kept])


def test_midnight_ends_the_day_before():
    index = pd.DatetimeIndex(["2020-02-29 23:00", "2020-03-01 00:00", "2020-03-01 00:01"], tz="UTC")
    bars = _bars([1, 2, 3], [1, 1, 1]).set_index(index.rename("timestamp"))
    built = features.build(bars, {"day": "day_start(time)", "month": "month_number(day_start(time))"})
    start = pd.Timestamp("2020-02-29", tz="UTC").timestamp()
    np.testing.assert_array_equal(built["day"], [start, start, start + 86400])
    np.testing.assert_array_equal(built["month"].diff().iloc[1:], [0, 1])


def test_months_over_four_centuries():
    days = pd.date_range("1890-01-01 12:00", "2290-01-01", freq="D", unit="s", tz="UTC")
    columns = np.ones((6, len(days)))
    columns[5] = days.asi8
    texts = {"d": "day_of_month(time)", "n": "days_in_month(time)", "m": "month_number(time)"}
    texts |= {"y": "day_of_year(time)", "i": "month(time)"}
    program, out = compiled(texts), np.empty((5, len(days)))
    program.run(columns, program.initial_state.copy(), program.buffers(512), out)
    months = days.year * 12 + days.month - 1
    expected = [days.day, days.days_in_month, months, days.dayofyear - 1, days.month]
    np.testing.assert_array_equal(out, expected)


def test_entropy_counts_the_symbols_it_was_told_of():
    bars = _bars([1, 2, 1, 2, 1, 1, 1, 3, 1, 1, 1, 1], [1.0] * 12)
    built = features.build(bars, {"e": "entropy(close - 1, 4, 2)", "known": "entropy(close - 1, 4, 3)"})
    even, odd, third = math.log(2), stats.entropy([3, 1]), stats.entropy([3, 1])
    nan = math.nan
    np.testing.assert_allclose(
        built["e"], [nan] * 3 + [even, even, odd, odd, nan, nan, nan, nan, 0], rtol=1e-15
    )
    np.testing.assert_allclose(built["known"].iloc[7:11], [third] * 4, rtol=1e-15)


def test_a_flat_price_without_volume_reads_as_neutral():
    bars = _bars([7.0] * 400, [0.0] * 400)
    last = features.build(bars, {f.name: features.definitions()[f.name] for f in FEATURES}).iloc[-1]
    ones = {"volume_ratio_20", "volume_ratio_5_20", "illiquidity_ratio_20_60", "variance_ratio_5_60"}
    ones |= {"variance_ratio_2_120", "variance_ratio_16_120", "volatility_ratio_20_120", "turbulence_5_120"}
    ones |= {
        "illiquidity_ratio_5_60",
        "zero_return_share_20",
        "range_overlap",
        "narrow_range_7",
        "body_ratio_20",
        "inside_bar",
    }
    halves = {"session_position": 0.5, "hurst_120": 0.5, "mfi_14": 50.0, "volume_rank_60": 61 / 120}
    neutral = dict.fromkeys(ones, 1.0) | halves | {"volatility_rank_120": 121 / 240}
    neutral |= {"volatility_age_60": 1.0, "average_age_60": 1.0}
    clocks = {f.name for f in calendar.FEATURES} - {"session_position", "session_return", "session_gap"}
    for name in last.index.difference([*clocks, *last.index[last.isna()]]):
        assert last[name] == pytest.approx(neutral.get(name, 0.0), rel=0, abs=1e-12), name


def test_spreads_that_bounce_prices_are_found_again():
    """Trades at the two sides of a quote round a random walk (Roll 1984)."""
    rng, rows, spread = np.random.default_rng(5), 20_000, 0.004
    middle = np.cumsum(1e-4 * rng.normal(size=rows))
    close = np.exp(middle + 0.5 * spread * rng.choice([-1, 1], rows))
    bars = _bars(close.tolist(), [1.0] * rows)
    roll = features.build(bars, {"r": "sqrt(max(-cov(returns, delay(returns, 1), 19000), 0)) * 2"})["r"]
    assert roll.iloc[-1] == pytest.approx(spread, rel=0.02)


def test_a_price_moved_by_flow_shows_its_impact():
    rng, impact = np.random.default_rng(6), 0.01
    signs, sizes = rng.choice([-1, 1], 400), rng.lognormal(0, 0.5, 400)
    bars = _bars(np.exp(np.cumsum(impact * signs * sizes)).tolist(), sizes.tolist())
    built = features.build(bars, {"k": "beta(returns, signed_volume, 60)"})["k"].dropna()
    np.testing.assert_allclose(built, impact, rtol=1e-9)


@pytest.mark.parametrize(("drift", "expected"), [(0.0, 0.5), (0.9, 1.0), (-0.9, 0.0)])
def test_the_hurst_exponent_tells_wandering_from_persistence_and_return(drift, expected):
    rng = np.random.default_rng(7)
    steps, path = rng.normal(size=3000), np.zeros(3000)
    for t in range(1, 3000):
        memory_ = path[t - 1] if t == 1 else path[t - 1] - path[t - 2]
        pull = drift * memory_ if drift > 0 else drift * path[t - 1]
        path[t] = path[t - 1] + pull + steps[t]
    bars = _bars(np.exp(0.001 * path).tolist(), [1.0] * 3000)
    hurst = features.build(bars, {"h": features.definitions()["hurst_120"]})["h"]
    assert hurst.median() == pytest.approx(expected, abs=0.15)


def test_only_what_counts_from_an_anchor_may_begin_late(intraday):
    """And it must go on: a value that is missing later, or everywhere, is a finding."""
    since_monday = "cumulate(volume, day_of_week(time) <= 0)"
    sound = {"whole": since_monday, "stays": f"{since_monday} / volume"}
    holes = {"hole": f"log({since_monday} - volume)", "never": "cumulate(volume, close <= 0)"}
    late = {"late": "log(delay(volume, 200) * (day_of_month(time) > 25))"}
    found = missing(features.build(intraday, sound | holes | late), sound | holes | late)
    assert {finding.feature for finding in found} == {"hole", "never", "late"}
    assert "at any bar" in next(finding.detail for finding in found if finding.feature == "never")

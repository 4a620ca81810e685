"""Alpha158 as Qlib defines it, in plain pandas and numpy: whole windows only, everything in float64.

Written from the published definitions (microsoft/qlib, qlib/contrib/data/loader.py, qlib/data/ops.py), not
from our catalogue. Column names are Qlib's; VWAP is the typical price.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

Series = pd.Series
Floats = npt.NDArray[np.float64]
WINDOWS = (5, 10, 20, 30, 60)
TINY = 1e-12


def alpha158(bars: pd.DataFrame) -> pd.DataFrame:
    """The 158 features of `bars` in the published order; NaN and infinity where Qlib's formula gives them."""
    with np.errstate(all="ignore"):
        columns = dict(_bar(bars))
        parts = {d: dict(_rolling(bars, d)) for d in WINDOWS}
        columns |= {f"{name}{d}": parts[d][name] for name in parts[WINDOWS[0]] for d in WINDOWS}
        return pd.DataFrame(columns, index=bars.index)


def _bar(bars: pd.DataFrame) -> Iterator[tuple[str, Series]]:
    opened, high, low, close = bars.open, bars.high, bars.low, bars.close
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    parts = {"MID": close - opened, "UP": high - top, "LOW": bottom - low, "SFT": 2 * close - high - low}
    for name, part in parts.items():
        yield f"K{name}", part / opened
        if name == "MID":
            yield "KLEN", (high - low) / opened
        yield f"K{name}2", part / (high - low + TINY)
    for name, price in {"OPEN": opened, "HIGH": high, "LOW": low, "VWAP": (high + low + close) / 3}.items():
        yield f"{name}0", price / close


def _rolling(bars: pd.DataFrame, d: int) -> Iterator[tuple[str, Series | Floats]]:
    close, volume = bars.close, bars.volume
    before = close.shift(1)
    slope, share, residual = fit(close, d)
    top, bottom = bars.high.rolling(d).max(), bars.low.rolling(d).min()
    yield "ROC", close.shift(d) / close
    yield "MA", _mean(close, d) / close
    yield "STD", _std(close, d) / close
    yield "BETA", slope / close
    yield "RSQR", share
    yield "RESI", residual / close
    yield "MAX", top / close
    yield "MIN", bottom / close
    yield "QTLU", close.rolling(d).quantile(0.8) / close
    yield "QTLD", close.rolling(d).quantile(0.2) / close
    yield "RANK", close.rolling(d).rank(pct=True)
    yield "RSV", (close - bottom) / (top - bottom + TINY)
    highest, lowest = _first(np.argmax, bars.high, d), _first(np.argmin, bars.low, d)
    yield "IMAX", highest / d
    yield "IMIN", lowest / d
    yield "IMXD", (highest - lowest) / d
    yield "CORR", correlation(close, np.log(volume + 1), d)
    yield "CORD", correlation(close / before, np.log(volume / volume.shift(1) + 1), d)
    up, down = (
        _mean(flag.astype(float).where(before.notna()), d) for flag in (close > before, close < before)
    )
    yield "CNTP", up
    yield "CNTN", down
    yield "CNTD", up - down
    yield from _gains("SUM", close, d)
    yield "VMA", _mean(volume, d) / (volume + TINY)
    yield "VSTD", _std(volume, d) / (volume + TINY)
    weighted = (close / before - 1).abs() * volume
    yield "WVMA", _std(weighted, d) / (_mean(weighted, d) + TINY)
    yield from _gains("VSUM", volume, d)


def _gains(name: str, x: Series, d: int) -> Iterator[tuple[str, Floats]]:
    change = x.diff()
    rises, falls = (
        windows(change.clip(lower=0), d).sum(axis=1),
        windows((-change).clip(lower=0), d).sum(axis=1),
    )
    total = windows(change.abs(), d).sum(axis=1) + TINY
    yield f"{name}P", rises / total
    yield f"{name}N", falls / total
    yield f"{name}D", (rises - falls) / total


def windows(x: Series, d: int) -> Floats:
    """The last `d` values at each bar [N, d], oldest first; NaN before there are so many."""
    rows = np.full((len(x), d), np.nan)
    rows[d - 1 :] = np.lib.stride_tricks.sliding_window_view(x.to_numpy(dtype=np.float64), d)
    return rows


def _mean(x: Series, d: int) -> Floats:
    return windows(x, d).mean(axis=1)


def _std(x: Series, d: int) -> Floats:
    return windows(x, d).std(axis=1, ddof=1)


def _first(pick: object, x: Series, d: int) -> Floats:
    """Place of an extreme, 1 for the oldest bar; numpy's argmax and argmin take the first of equals."""
    rows = windows(x, d)
    places = pick(rows, axis=1) + 1.0  # type: ignore[operator]
    return np.where(np.isnan(rows).any(axis=1), np.nan, places)


def _centered(x: Series, d: int) -> Floats:
    rows = windows(x, d)
    rows -= rows[:, :1]  # equal values are then exactly 0
    return rows - rows.mean(axis=1, keepdims=True)


def correlation(x: Series, y: Series, d: int) -> Floats:
    """Pearson, bar by bar; 0 / 0 where a side does not vary."""
    a, b = _centered(x, d), _centered(y, d)
    return (a * b).sum(axis=1) / (np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1)))


def fit(y: Series, d: int) -> tuple[Floats, Floats, Floats]:
    """Slope, R-squared and last residual of the least-squares line through bars 1 ... d of each window."""
    bar = np.arange(1.0, d + 1) - (d + 1) / 2
    centered = _centered(y, d)
    slope = centered @ bar / (bar @ bar)
    share = (slope * slope) * (bar @ bar) / (centered * centered).sum(axis=1)
    return slope, share, centered[:, -1] - slope * bar[-1]

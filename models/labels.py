"""What "up" means: fixed-horizon and triple-barrier labels, each with the time it becomes known.

Labels read the future on purpose. Nothing that runs live can import this module.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]
Kind = Literal["fixed_horizon", "triple_barrier"]
Touch = Literal["close", "range"]


def make_labels(
    bars: pd.DataFrame,
    *,
    kind: Kind = "fixed_horizon",
    horizon: int = 5,
    take_profit: float = 1.0,
    stop_loss: float = 1.0,
    volatility_span: int = 50,
    touch: Touch = "close",
) -> pd.DataFrame:
    """Labels of canonical bars, for every bar whose whole window of `horizon` bars is in `bars`.

    Index: bar close, UTC. Columns: label (1.0 when the return is above zero, else 0.0), ret (simple
    return from the bar's close to the label's end), t1 (close of the bar that ends the label, UTC);
    for triple_barrier also barrier (+1 take-profit, -1 stop, 0 neither within the horizon).
    `take_profit`, `stop_loss`, `volatility_span` and `touch` apply to triple_barrier; see there.
    """
    _check(bars, kind, horizon, take_profit, stop_loss, volatility_span, touch)
    if kind == "fixed_horizon":
        return fixed_horizon(bars, horizon)
    sigma = volatility(bars["close"], volatility_span)
    return triple_barrier(bars, sigma, horizon, take_profit, stop_loss, touch)


def fixed_horizon(bars: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Label = close[t + horizon] > close[t]; an unchanged price is not up."""
    close = bars["close"].to_numpy(dtype=np.float64)
    ret = close[horizon:] / close[:-horizon] - 1.0
    start = np.arange(len(ret))
    return _frame(bars, start, start + horizon, ret)


def volatility(close: pd.Series, span: int) -> Floats:
    """Exponentially weighted standard deviation of one-bar returns up to and including each bar [n].

    NaN for the first `span` bars.
    """
    deviation = close.pct_change(fill_method=None).ewm(span=span, min_periods=span).std()
    return np.asarray(deviation.to_numpy(dtype=np.float64))


def triple_barrier(
    bars: pd.DataFrame,
    sigma: Floats,
    horizon: int,
    take_profit: float,
    stop_loss: float,
    touch: Touch = "close",
) -> pd.DataFrame:
    """First of: return >= take_profit * sigma, return <= -stop_loss * sigma, `horizon` bars passed.

    `sigma` [n] is the one-bar volatility known at each close; bars where it is NaN or 0 get no label.
    `touch="close"` looks at closes alone and takes the close's return. `touch="range"` looks at highs
    and lows and takes the barrier's own return, or the open's when the bar opens beyond the barrier; a
    bar that reaches both barriers counts as the stop, the order within a bar being unknown.
    López de Prado 2018, ch. 3.
    """
    with np.errstate(invalid="ignore"):
        start = np.flatnonzero(sigma[: max(0, len(bars) - horizon)] > 0.0)
    close = bars["close"].to_numpy(dtype=np.float64)
    entry, unit = close[start], sigma[start]
    end, ret = start + horizon, close[start + horizon] / entry - 1.0
    barrier = np.zeros(len(start))
    for step in range(1, horizon + 1):
        above, below = _touches(bars, start + step, entry, take_profit * unit, -stop_loss * unit, touch)
        free = (barrier == 0) & (end == start + horizon)
        stopped, taken = free & ~np.isnan(below), free & np.isnan(below) & ~np.isnan(above)
        ret = np.where(stopped, below, np.where(taken, above, ret))
        barrier += taken.astype(np.float64) - stopped
        end = np.where(stopped | taken, start + step, end)
    return _frame(bars, start, end, ret).assign(barrier=barrier)


def _touches(
    bars: pd.DataFrame, at: NDArray[np.int64], entry: Floats, upper: Floats, lower: Floats, touch: Touch
) -> tuple[Floats, Floats]:
    """Returns at which the bars `at` touch the upper and the lower barrier; NaN where they do not."""
    if touch == "close":
        now = bars["close"].to_numpy(dtype=np.float64)[at] / entry - 1.0
        return np.where(now >= upper, now, np.nan), np.where(now <= lower, now, np.nan)
    opened, high, low = (
        bars[c].to_numpy(dtype=np.float64)[at] / entry - 1.0 for c in ("open", "high", "low")
    )
    above = np.where(high >= upper, np.maximum(opened, upper), np.nan)
    return above, np.where(low <= lower, np.minimum(opened, lower), np.nan)


def _frame(bars: pd.DataFrame, start: NDArray[np.int64], end: NDArray[np.int64], ret: Floats) -> pd.DataFrame:
    columns = {"label": (ret > 0.0).astype(np.float64), "ret": ret, "t1": bars.index[end]}
    return pd.DataFrame(columns, index=bars.index[start])


def _check(
    bars: pd.DataFrame,
    kind: str,
    horizon: int,
    take_profit: float,
    stop_loss: float,
    volatility_span: int,
    touch: str,
) -> None:
    faults = [
        f"labels.{name} = {value!r}: must be {rule}"
        for name, value, rule, fine in (
            ("kind", kind, "fixed_horizon or triple_barrier", kind in ("fixed_horizon", "triple_barrier")),
            ("horizon", horizon, "at least 1 bar", horizon >= 1),
            ("take_profit", take_profit, "above 0", take_profit > 0),
            ("stop_loss", stop_loss, "above 0", stop_loss > 0),
            ("volatility_span", volatility_span, "at least 2 bars", volatility_span >= 2),
            ("touch", touch, "close or range", touch in ("close", "range")),
        )
        if not fine
    ]
    if faults:
        raise ConfigurationError(faults)
    needed = horizon + 1 + (volatility_span if kind == "triple_barrier" else 0)
    if len(bars) < needed:
        raise DataError(f"labels: {len(bars)} bars, {needed} are needed for one label; add history")

"""What is predicted: fixed-horizon and triple-barrier labels and meta-labels, each with the time it is known.

Labels read the future on purpose. Nothing that runs live can import this module.
"""

from collections.abc import Sequence
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
    classes: int = 2,
    side: Floats | None = None,
) -> pd.DataFrame:
    """Labels of canonical bars, for every bar whose whole window of `horizon` bars is in `bars`.

    Index: bar close, UTC. Columns: label, ret (simple return of the price from the bar's close to the
    label's end), t1 (close of the bar that ends the label, UTC); for triple_barrier also barrier (+1
    take-profit, -1 stop, 0 neither within the horizon). `label` is the number of the class:

    - two classes: 1 when `ret` is above zero, else 0;
    - three (triple_barrier): 0 stop first, 1 neither, 2 take-profit first;
    - with `side` [len(bars)] of a primary signal, known at each close (above 0 long, below 0 short, 0 or NaN
      none): the meta-label, 1 when that side made money, else 0. A column `side` holds -1, 0 or 1. Rows
      without a side have label 0, run the whole horizon and must weigh nothing: they stay because windows
      need neighbouring rows. A meta-label sizes the bet, it never flips it. López de Prado 2018, ch. 3.6.

    `take_profit`, `stop_loss`, `volatility_span` and `touch` apply to triple_barrier; see there.
    ConfigurationError lists every bad parameter; DataError: too few bars, a price that is not finite and
    positive, no volatility at any bar, a side of another length.
    """
    _check_parameters(kind, horizon, take_profit, stop_loss, volatility_span, touch, classes, side)
    needed = horizon + 1 + (volatility_span if kind == "triple_barrier" else 0)
    if len(bars) < needed:
        raise DataError(f"labels: {len(bars)} bars, {needed} are needed for one label; add history")
    _check_prices(bars, ("open", "high", "low", "close") if touch == "range" else ("close",))
    bet = None if side is None else _signs(bars, side)
    if kind == "fixed_horizon":
        return fixed_horizon(bars, horizon, bet)
    sigma = volatility(bars["close"], volatility_span)
    labels = triple_barrier(bars, sigma, horizon, take_profit, stop_loss, touch, bet)
    return labels if classes == 2 else labels.assign(label=labels["barrier"] + 1.0)


def class_shares(labels: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """Share of the labels in each class; DataError unless every class occurs, since no model learns less."""
    counts = np.bincount(labels["label"].to_numpy(dtype=np.int64), minlength=len(classes))
    shares = {name: count / max(1, len(labels)) for name, count in zip(classes, counts, strict=True)}
    if not counts.all():
        absent = " and ".join(name for name, share in shares.items() if share == 0.0)
        held = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share > 0.0) or "no label"
        raise DataError(
            f"labels: 0 of {len(labels)} are {absent} ({held}), every class must occur: change "
            "labels.horizon or the barriers, or take other bars"
        )
    return shares


def fixed_horizon(bars: pd.DataFrame, horizon: int, side: Floats | None = None) -> pd.DataFrame:
    """Label = close[t + horizon] > close[t]; an unchanged price is not up, nor makes money on any `side`."""
    close = bars["close"].to_numpy(dtype=np.float64)
    ret = close[horizon:] / close[:-horizon] - 1.0
    start = np.arange(len(ret))
    return _frame(bars, start, start + horizon, ret, side)


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
    side: Floats | None = None,
) -> pd.DataFrame:
    """First of: profit of take_profit * sigma, loss of stop_loss * sigma, `horizon` bars passed.

    Profit and loss are those of `side` [n] (-1, 0, 1; None: long everywhere): for a short the take-profit
    lies below the entry and the stop above it; without a side there are no barriers. `sigma` [n] is the
    one-bar volatility known at each close; bars where it is NaN or 0 get no label.
    `touch="close"` looks at closes alone and takes the close's return. `touch="range"` looks at highs
    and lows and takes the barrier's own return, or the open's when the bar opens beyond the barrier; a
    bar that reaches both barriers counts as the stop of its side, the order within a bar being unknown.
    López de Prado 2018, ch. 3.
    """
    with np.errstate(invalid="ignore"):
        start = np.flatnonzero(sigma[: max(0, len(bars) - horizon)] > 0.0)
    if len(start) == 0:
        raise DataError(
            f"labels: volatility is above 0 at none of {len(bars)} bars, barriers are multiples of it: take "
            "bars whose price moves, or set labels.kind=fixed_horizon"
        )
    close = bars["close"].to_numpy(dtype=np.float64)
    entry, unit = close[start], sigma[start]
    bet = np.ones(len(start)) if side is None else side[start]
    upper = unit * np.select([bet > 0.0, bet < 0.0], [take_profit, stop_loss], np.inf)
    lower = -unit * np.select([bet > 0.0, bet < 0.0], [stop_loss, take_profit], np.inf)
    end, ret = start + horizon, close[start + horizon] / entry - 1.0
    barrier = np.zeros(len(start))
    for step in range(1, horizon + 1):
        above, below = _touches(bars, start + step, entry, upper, lower, touch)
        loss, profit = np.where(bet < 0.0, above, below), np.where(bet < 0.0, below, above)
        free = (barrier == 0) & (end == start + horizon)
        stopped, taken = free & ~np.isnan(loss), free & np.isnan(loss) & ~np.isnan(profit)
        ret = np.where(stopped, loss, np.where(taken, profit, ret))
        barrier += taken.astype(np.float64) - stopped
        end = np.where(stopped | taken, start + step, end)
    return _frame(bars, start, end, ret, side).assign(barrier=barrier)


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


def _frame(
    bars: pd.DataFrame, start: NDArray[np.int64], end: NDArray[np.int64], ret: Floats, side: Floats | None
) -> pd.DataFrame:
    gain = ret if side is None else side[start] * ret
    columns = {"label": (gain > 0.0).astype(np.float64), "ret": ret, "t1": bars.index[end]}
    frame = pd.DataFrame(columns, index=bars.index[start])
    return frame if side is None else frame.assign(side=side[start])


def _signs(bars: pd.DataFrame, side: Floats) -> Floats:
    if side.shape != (len(bars),):
        raise DataError(f"labels: {side.shape} sides for {len(bars)} bars: build both from the same bars")
    return np.nan_to_num(np.sign(side), nan=0.0)


def _check_parameters(
    kind: str,
    horizon: int,
    take_profit: float,
    stop_loss: float,
    volatility_span: int,
    touch: str,
    classes: int,
    side: Floats | None,
) -> None:
    three = "2, or 3 with triple_barrier and without a primary signal"
    countable = classes == 2 or (classes == 3 and kind == "triple_barrier" and side is None)
    faults = [
        f"labels.{name} = {value!r}: must be {rule}"
        for name, value, rule, fine in (
            ("kind", kind, "fixed_horizon or triple_barrier", kind in ("fixed_horizon", "triple_barrier")),
            ("horizon", horizon, "at least 1 bar", horizon >= 1),
            ("take_profit", take_profit, "above 0", take_profit > 0),
            ("stop_loss", stop_loss, "above 0", stop_loss > 0),
            ("volatility_span", volatility_span, "at least 2 bars", volatility_span >= 2),
            ("touch", touch, "close or range", touch in ("close", "range")),
            ("classes", classes, three, countable),
        )
        if not fine
    ]
    if faults:
        raise ConfigurationError(faults)


def _check_prices(bars: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        prices = bars[name].to_numpy(dtype=np.float64)
        wrong = ~((prices > 0.0) & (prices < np.inf))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"labels: {name} {prices[row]} at {bars.index[row]} ({int(wrong.sum())} such bars), must be "
                "finite and above 0: mend the bars"
            )

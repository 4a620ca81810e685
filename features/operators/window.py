"""Rolling operators over the last `window` bars, this one included; any NaN inside makes the value NaN."""

import math
from typing import Any

from features.operators.spec import WINDOW, Floats, Param, full_window, operator
from features.operators.tree import tree, tree_state


def ring_state(window: float, *_: float) -> tuple[int, int]:
    """A ring position and the last `window` values."""
    return 1, int(window)


@operator(1, (Param("lag", minimum=1),), ring_state, int)
def delay(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, lag: int) -> None:
    """The value `lag` bars ago."""
    position, ring = int(state[at]), at + 1
    early = lag if lag < n else n
    for i in range(early):
        slot = position + i
        buf[out, i] = state[ring + (slot - lag if slot >= lag else slot)]
    for i in range(early, n):
        buf[out, i] = buf[x, i - lag]
    position = (position + n) % lag
    for i in range(n - early, n):
        slot = position - n + i
        state[ring + (slot + lag if slot < 0 else slot)] = buf[x, i]
    state[at] = position


def _value(buf: Any, x: int, y: int, i: int) -> tuple[float]:
    return (buf[x, i],)


def _merge_sum(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float]:
    return (a[0] + b[0],)


def _merge_mean(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float]:
    return (a[0] + (b[0] - a[0]) * share,)


def _merge_highest(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float]:
    return (a[0] if a[0] > b[0] or a[0] != a[0] else b[0],)


def _merge_lowest(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float]:
    return (a[0] if a[0] < b[0] or a[0] != a[0] else b[0],)


_fold_sum = tree(1, _value, _merge_sum)
_fold_mean = tree(1, _value, _merge_mean)
_fold_highest = tree(1, _value, _merge_highest)
_fold_lowest = tree(1, _value, _merge_lowest)


@operator(1, (WINDOW,), tree_state(1), full_window)
def sum(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Sum of the window."""
    _fold_sum(buf, n, x, x, state, at, work, window)
    for i in range(n):
        buf[out, i] = work[i]


@operator(1, (WINDOW,), tree_state(1), full_window)
def mean(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Arithmetic mean; of equal values it is that value exactly, being merged, not divided from a sum."""
    _fold_mean(buf, n, x, x, state, at, work, window)
    for i in range(n):
        buf[out, i] = work[i]


@operator(1, (WINDOW,), tree_state(1), full_window)
def highest(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Highest value of the window."""
    _fold_highest(buf, n, x, x, state, at, work, window)
    for i in range(n):
        buf[out, i] = work[i]


@operator(1, (WINDOW,), tree_state(1), full_window)
def lowest(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Lowest value of the window."""
    _fold_lowest(buf, n, x, x, state, at, work, window)
    for i in range(n):
        buf[out, i] = work[i]


def _aged(buf: Any, x: int, y: int, i: int) -> tuple[float, float]:
    return buf[x, i], 0.0


def _merge_highest_age(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    if a[0] > b[0] or a[0] != a[0]:
        return a[0], a[1] + n
    return b[0], b[1]


def _merge_lowest_age(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    if a[0] < b[0] or a[0] != a[0]:
        return a[0], a[1] + n
    return b[0], b[1]


_fold_highest_age = tree(2, _aged, _merge_highest_age)
_fold_lowest_age = tree(2, _aged, _merge_lowest_age)


@operator(1, (WINDOW,), tree_state(2), full_window)
def bars_since_highest(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Bars since the window's highest value (the latest of equals)."""
    _fold_highest_age(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[chunk + i] if work[i] == work[i] else math.nan


@operator(1, (WINDOW,), tree_state(2), full_window)
def bars_since_lowest(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Bars since the window's lowest value (the latest of equals)."""
    _fold_lowest_age(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[chunk + i] if work[i] == work[i] else math.nan

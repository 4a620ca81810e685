"""Operators whose value depends on all history with fading weight.

Seeded by the first defined input; an undefined input gives an undefined value and is not remembered.
The warm-up is the bars until the weight of everything before them is below FORGOTTEN.
"""

import math
from typing import Any

from features.operators.spec import WINDOW, Floats, njit, operator

FORGOTTEN = 1e-6


def one_value(*_: float) -> tuple[int, int]:
    """State: the previous value, NaN before the seed."""
    return 0, 1


def fading(alpha: float) -> int:
    """The smallest k with (1 - alpha)^k < FORGOTTEN."""
    if alpha >= 1.0:
        return 0
    return math.floor(math.log(FORGOTTEN) / math.log1p(-alpha)) + 1


@njit
def _decay(buf: Any, n: int, out: int, x: int, state: Floats, at: int, alpha: float) -> None:
    value = state[at]
    for i in range(n):  # a missing value would stay to the end
        value = value + alpha * (buf[x, i] - value)
        buf[out, i] = value
    if value == value:
        state[at] = value
    else:
        _decay_with_gaps(buf, n, out, x, state, at, alpha)


@njit
def _decay_with_gaps(buf: Any, n: int, out: int, x: int, state: Floats, at: int, alpha: float) -> None:
    value = state[at]
    for i in range(n):
        fresh = buf[x, i]
        if fresh == fresh:
            value = value + alpha * (fresh - value) if value == value else fresh
            buf[out, i] = value
        else:
            buf[out, i] = fresh
    state[at] = value


@njit
def _decays(buf: Any, n: int, out: Any, x: Any, state: Floats, at: Any, alpha: Any) -> None:
    """Four at once: while one waits for its bar before, the processor works at the others."""
    a, b, c, d = state[at[0]], state[at[1]], state[at[2]], state[at[3]]
    for i in range(n):
        a = a + alpha[0] * (buf[x[0], i] - a)
        buf[out[0], i] = a
        b = b + alpha[1] * (buf[x[1], i] - b)
        buf[out[1], i] = b
        c = c + alpha[2] * (buf[x[2], i] - c)
        buf[out[2], i] = c
        d = d + alpha[3] * (buf[x[3], i] - d)
        buf[out[3], i] = d
    total = a + b + c + d
    if total - total == 0.0:
        state[at[0]], state[at[1]], state[at[2]], state[at[3]] = a, b, c, d
    else:
        _decay_with_gaps(buf, n, out[0], x[0], state, at[0], alpha[0])
        if at[1] != at[0]:  # fewer than four are filled up with the last
            _decay_with_gaps(buf, n, out[1], x[1], state, at[1], alpha[1])
        if at[2] != at[1]:
            _decay_with_gaps(buf, n, out[2], x[2], state, at[2], alpha[2])
        if at[3] != at[2]:
            _decay_with_gaps(buf, n, out[3], x[3], state, at[3], alpha[3])


def _emas(buf: Any, n: int, out: Any, x: Any, state: Floats, at: Any, work: Floats, window: Any) -> None:
    a, b, c, d = window
    weights = 2.0 / (a + 1.0), 2.0 / (b + 1.0), 2.0 / (c + 1.0), 2.0 / (d + 1.0)
    _decays(buf, n, out, x, state, at, weights)


def _wilders(buf: Any, n: int, out: Any, x: Any, state: Floats, at: Any, work: Floats, window: Any) -> None:
    a, b, c, d = window
    _decays(buf, n, out, x, state, at, (1.0 / a, 1.0 / b, 1.0 / c, 1.0 / d))


@operator(1, (WINDOW,), one_value, lambda window: fading(2.0 / (window + 1.0)), together=_emas)
def ema(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Exponential average with weight 2 / (window + 1) on the newest value."""
    _decay(buf, n, out, x, state, at, 2.0 / (window + 1.0))


@operator(1, (WINDOW,), one_value, lambda window: fading(1.0 / window), together=_wilders)
def wilder(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Wilder's average: weight 1 / window on the newest value (Wilder 1978)."""
    _decay(buf, n, out, x, state, at, 1.0 / window)

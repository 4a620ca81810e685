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
    value, unknown = state[at], 0
    for i in range(n):
        unknown += buf[x, i] != buf[x, i]
    if value == value and unknown == 0:  # nothing to decide: each bar waits for the one before only
        for i in range(n):
            value = value + alpha * (buf[x, i] - value)
            buf[out, i] = value
    else:
        for i in range(n):
            fresh = buf[x, i]
            if fresh == fresh:
                value = value + alpha * (fresh - value) if value == value else fresh
                buf[out, i] = value
            else:
                buf[out, i] = fresh
    state[at] = value


@operator(1, (WINDOW,), one_value, lambda window: fading(2.0 / (window + 1.0)))
def ema(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Exponential average with weight 2 / (window + 1) on the newest value."""
    _decay(buf, n, out, x, state, at, 2.0 / (window + 1.0))


@operator(1, (WINDOW,), one_value, lambda window: fading(1.0 / window))
def wilder(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Wilder's average: weight 1 / window on the newest value (Wilder 1978)."""
    _decay(buf, n, out, x, state, at, 1.0 / window)

"""Operators that begin anew at an anchor: a session's first bar, a month's, the high of a window.

`reset` is not 0 on the bar that begins anew and belongs to what begins there. A value is NaN until the
first reset: the part of a session that history happens to hold must not pass for all of it.
"""

import math
from typing import Any

from features.operators.spec import WINDOW, Floats, full_window, operator
from features.operators.tree import tree, tree_state


def one_unknown(*_: float) -> tuple[int, int]:
    """State: one value, NaN before the first reset."""
    return 0, 1


def two_unknowns(*_: float) -> tuple[int, int]:
    """State: two values, NaN before the first reset."""
    return 0, 2


@operator(2, (), one_unknown)
def cumulate(buf: Any, n: int, out: int, x: int, reset: int, state: Floats, at: int, work: Floats) -> None:
    """Sum of x since the latest bar at which `reset` is not 0, that bar included."""
    total = state[at]
    for i in range(n):
        begins, value = buf[reset, i], buf[x, i]
        if begins == 0.0:
            total += value
        else:
            total = value if begins == begins else math.nan
        buf[out, i] = total
    state[at] = total


@operator(2, (), one_unknown)
def highest_since(
    buf: Any, n: int, out: int, x: int, reset: int, state: Floats, at: int, work: Floats
) -> None:
    """Highest x since the latest bar at which `reset` is not 0, that bar included."""
    top = state[at]
    for i in range(n):
        begins, value = buf[reset, i], buf[x, i]
        if begins == 0.0:
            top = top if top > value or top != top else value
        else:
            top = value if begins == begins else math.nan
        buf[out, i] = top
    state[at] = top


@operator(2, (), two_unknowns)
def before_reset(
    buf: Any, n: int, out: int, x: int, reset: int, state: Floats, at: int, work: Floats
) -> None:
    """The value of x on the bar before the latest one at which `reset` is not 0."""
    last, held = state[at], state[at + 1]
    for i in range(n):
        begins = buf[reset, i]
        if begins != 0.0:
            held = last if begins == begins else math.nan
        last = buf[x, i]
        buf[out, i] = held
    state[at], state[at + 1] = last, held


def _keyed(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float]:
    return buf[y, i], buf[x, i], buf[x, i]


def _merge_keyed(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    total = a[2] + b[2]
    if a[0] > b[0] or a[0] != a[0]:
        return a[0], a[1] + b[2], total
    return b[0], b[1], total


_fold_keyed = tree(3, _keyed, _merge_keyed)


@operator(2, (WINDOW,), tree_state(3), full_window)
def sum_since_highest(
    buf: Any, n: int, out: int, x: int, key: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Sum of x since the window's highest `key` (the latest of equals), that bar included."""
    _fold_keyed(buf, n, x, key, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        top, total = work[i], work[2 * chunk + i]
        buf[out, i] = work[chunk + i] if top == top and total == total else math.nan


def run_state(window: float) -> tuple[int, int]:
    """The run's length and the values seen since a missing one, then the previous value."""
    return 2, 1


@operator(1, (WINDOW,), run_state, full_window)
def run_length(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Bars for which x has kept its value, the newest included, counted up to `window`."""
    run, seen, previous = state[at], state[at + 1], state[at + 2]
    for i in range(n):
        value = buf[x, i]
        run = min(run + 1.0, float(window)) if value == previous else 1.0
        seen = min(seen + 1.0, float(window)) if value == value else 0.0
        buf[out, i] = run if seen == window else math.nan
        previous = value
    state[at], state[at + 1], state[at + 2] = run, seen, previous

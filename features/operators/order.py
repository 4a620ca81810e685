"""Operators that compare the values of a window with one another: rank, distance, quantile, place.

Any NaN inside makes the value NaN. All but the places of extremes read every value of the window at every
bar; their loops are laid out so that processors do several values at a time.
"""

import math
from collections.abc import Callable
from typing import Any

from features.operators.spec import WINDOW, Floats, Param, full_window, njit, operator
from features.operators.tree import tree, tree_state


def twice_state(window: float, *_: float) -> tuple[int, int]:
    """A ring position, and the last `window` values twice over: from any position on, all lie in a row."""
    return 1, 2 * int(window)


def window_sum(term: Callable[[float, float], float]) -> Callable[..., None]:
    """The fold of sum(term(value, newest `y`)) over the window's values of `x`, oldest first.

    A block as long as the window is summed lag by lag, for all its bars at once; a shorter one bar by bar.
    Either way a bar adds up the same terms in the same order. The result lies in `work`.
    """
    term = njit(term)

    @njit
    def by_bar(buf: Any, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        position = int(state[at])
        for i in range(n):
            state[at + 1 + position] = buf[x, i]
            state[at + 1 + position + window] = buf[x, i]
            position = position + 1 if position + 1 < window else 0
            oldest, total = at + 1 + position, 0.0
            for j in range(window):
                total += term(state[oldest + j], buf[y, i])
            work[i] = total
        state[at] = position

    @njit
    def by_lag(buf: Any, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        position = int(state[at])
        first = 2 * buf.shape[1]  # rows of `work`: sums, history, block
        for j in range(window):
            work[first - window + j] = state[at + 1 + position + j]
        for i in range(n):
            work[first + i] = buf[x, i]
            work[i] = 0.0
        for lag in range(window - 1, -1, -1):
            for i in range(n):
                work[i] += term(work[first - lag + i], buf[y, i])
        position = (position + n) % window
        for j in range(window):
            slot = position + j if position + j < window else position + j - window
            state[at + 1 + slot] = work[first + n - window + j]
            state[at + 1 + slot + window] = work[first + n - window + j]
        state[at] = position

    @njit
    def fold(buf: Any, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        if n < window:
            by_bar(buf, n, x, y, state, at, work, window)
        else:
            by_lag(buf, n, x, y, state, at, work, window)

    return fold


def _lead(value: float, newest: float) -> float:
    # counts of whole numbers, so exact; a NaN must reach the sum too: 0 * NaN is NaN
    return (1.0 if value < newest else 0.0) - (1.0 if value > newest else 0.0) + 0.0 * value


def _distance(value: float, center: float) -> float:
    return math.fabs(value - center)


_fold_lead = window_sum(_lead)
_fold_distance = window_sum(_distance)


@operator(1, (WINDOW,), twice_state, full_window)
def rank(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Rank of the newest value as a share of the window, ties averaged; all equal: (w + 1) / 2w."""
    _fold_lead(buf, n, x, x, state, at, work, window)
    for i in range(n):
        buf[out, i] = 0.5 * (window + 1 + work[i]) / window


@operator(2, (WINDOW,), twice_state, full_window, remembered=1)
def deviation(
    buf: Any, n: int, out: int, x: int, center: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Mean absolute distance of the window's values from the newest `center`, summed oldest first."""
    _fold_distance(buf, n, x, center, state, at, work, window)
    for i in range(n):
        buf[out, i] = work[i] / window


def sorted_state(window: float, *_: float) -> tuple[int, int]:
    """A ring position and the number of values that are not NaN; the ring, and a sorted copy of it.

    The copy holds +inf in place of NaN, and one +inf more at its end.
    """
    return 2, 2 * int(window) + 1


@njit
def _replace(state: Floats, ordered: int, window: int, oldest: float, newest: float) -> None:
    """Take `oldest` out of the sorted values and put `newest` in: one pass without branches.

    What lies between the two moves by one place, towards where `oldest` was.
    """
    if newest >= oldest:
        for j in range(ordered, ordered + window):
            here, right = state[j], state[j + 1]
            moved = here if here > newest else newest
            moved = right if right < moved else moved
            state[j] = here if here < oldest else moved
    else:
        left = -math.inf
        for j in range(ordered, ordered + window):
            here = state[j]
            moved = here if here < newest else newest
            moved = left if left > moved else moved
            state[j] = here if here > oldest else moved
            left = here


@operator(1, (WINDOW, Param("share", minimum=0.0, maximum=1.0, integer=False)), sorted_state, full_window)
def quantile(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int, share: float
) -> None:
    """The value below which `share` of the window lies, interpolated linearly; 0.5 is the median."""
    position, defined = int(state[at]), int(state[at + 1])
    ring, ordered = at + 2, at + 2 + window
    if defined == 0:
        for j in range(ordered, ordered + window + 1):
            state[j] = math.inf
    place = share * (window - 1)
    low = min(int(place), window - 1)
    part = place - low
    for i in range(n):
        newest = buf[x, i]
        oldest = state[ring + position]
        state[ring + position] = newest
        position = position + 1 if position + 1 < window else 0
        defined += int(newest == newest) - int(oldest == oldest)
        oldest = oldest if oldest == oldest else math.inf
        newest = newest if newest == newest else math.inf
        _replace(state, ordered, window, oldest, newest)
        value = state[ordered + low]
        if part > 0.0:
            value += (state[ordered + low + 1] - value) * part
        buf[out, i] = value if defined == window else math.nan
    state[at], state[at + 1] = position, defined


def _placed(buf: Any, x: int, y: int, i: int) -> tuple[float, float]:
    return buf[x, i], 1.0


def _merge_highest_place(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    if a[0] >= b[0] or a[0] != a[0]:
        return a[0], a[1]
    return b[0], b[1] + m


def _merge_lowest_place(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    if a[0] <= b[0] or a[0] != a[0]:
        return a[0], a[1]
    return b[0], b[1] + m


_fold_highest_place = tree(2, _placed, _merge_highest_place)
_fold_lowest_place = tree(2, _placed, _merge_lowest_place)


@operator(1, (WINDOW,), tree_state(2), full_window)
def place_of_highest(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Where in the window its highest value stands (the earliest of equals): 1 oldest ... window newest."""
    _fold_highest_place(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[chunk + i] if work[i] == work[i] else math.nan


@operator(1, (WINDOW,), tree_state(2), full_window)
def place_of_lowest(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Where in the window its lowest value stands (the earliest of equals): 1 oldest ... window newest."""
    _fold_lowest_place(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[chunk + i] if work[i] == work[i] else math.nan

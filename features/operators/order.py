"""Operators that compare the values of a window with one another: rank, quantile, place, distance.

Any NaN inside makes the value NaN. All of them need the values of the window themselves, so a bar costs as
much as its window is long; the loops are laid out so that they run in vectors.
"""

import math
from collections.abc import Callable
from typing import Any

from features.operators.spec import WINDOW, Floats, Param, full_window, njit, operator
from features.operators.tree import tree, tree_state

# in blocks shorter than this a loop over the window is faster than one over the bars
FEW = 16


def twice_state(window: float, *_: float) -> tuple[int, int]:
    """A ring position, and the last `window` values twice over: from any position on, all lie in a row."""
    return 1, 2 * int(window)


@njit
def _remember(ring: Floats, position: int, window: int, row: Floats, n: int) -> int:
    """Put the last of `row` over the oldest of the ring; the position of what is now the oldest."""
    first = max(n - window, 0)
    position = (position + first) % window
    for i in range(first, n):
        ring[position] = row[i]
        ring[position + window] = row[i]
        position += 1
        if position == window:
            position = 0
    return position


def window_sum(term: Callable[[float, float], float]) -> Callable[..., None]:
    """The fold of sum(term(value, newest `middle`)) over the window's values, oldest first.

    A long block is summed lag by lag, for all bars at once; a short one bar by bar. Either way each bar adds
    up the same terms in the same order. The result lies in `work`.
    """
    term = njit(term)

    @njit
    def add(total: Floats, middle: Floats, values: Floats, n: int) -> None:
        for i in range(n):
            total[i] += term(values[i], middle[i])

    @njit
    def fold(buf: Any, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        row, middle, total = buf[x, :n], buf[y, :n], work[:n]
        ring, position = state[at + 1 : at + 1 + 2 * window], int(state[at])
        if n < FEW:
            for i in range(n):
                position = _remember(ring, position, window, row[i:], 1)
                values, result = ring[position : position + window], 0.0
                for j in range(window):
                    result += term(values[j], middle[i])
                total[i] = result
        else:
            for i in range(n):
                total[i] = 0.0
            past = ring[position : position + window]
            for lag in range(window - 1, -1, -1):
                reach = min(lag, n)
                add(total, middle, past[window - lag :], reach)
                add(total[reach:], middle[reach:], row, n - reach)
            position = _remember(ring, position, window, row, n)
        state[at] = position

    return fold  # type: ignore[no-any-return]


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
def _replace(ordered: Floats, window: int, oldest: float, newest: float) -> None:
    """Take `oldest` out of the sorted values and put `newest` in: one pass without branches.

    What lies between the two moves by one place, towards where `oldest` was.
    """
    if newest >= oldest:
        for j in range(window):
            here, right = ordered[j], ordered[j + 1]
            moved = here if here > newest else newest
            moved = right if right < moved else moved
            ordered[j] = here if here < oldest else moved
    else:
        left = -math.inf
        for j in range(window):
            here = ordered[j]
            moved = here if here < newest else newest
            moved = left if left > moved else moved
            ordered[j] = here if here > oldest else moved
            left = here


@operator(1, (WINDOW, Param("share", minimum=0.0, integer=False)), sorted_state, full_window)
def quantile(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int, share: float
) -> None:
    """The value below which `share` of the window lies, interpolated linearly; 0.5 is the median."""
    position, defined = int(state[at]), int(state[at + 1])
    ring = state[at + 2 : at + 2 + window]
    ordered = state[at + 2 + window : at + 3 + 2 * window]
    if defined == 0:
        for j in range(window + 1):
            ordered[j] = math.inf
    place = share * (window - 1)
    low = min(int(place), window - 1)
    part = place - low
    for i in range(n):
        newest = buf[x, i] + 0.0  # -0.0 and 0.0 are equal, so only one of them may be kept
        oldest = ring[position]
        ring[position] = newest
        position += 1
        if position == window:
            position = 0
        defined += int(newest == newest) - int(oldest == oldest)
        oldest = oldest if oldest == oldest else math.inf
        newest = newest if newest == newest else math.inf
        _replace(ordered, window, oldest, newest)
        value = ordered[low]
        if part > 0.0:
            value += (ordered[low + 1] - value) * part
        buf[out, i] = value if defined == window else math.nan
    state[at], state[at + 1] = position, defined


def _placed(buf: Any, x: int, y: int, i: int) -> tuple[float, float]:
    return buf[x, i], 1.0


def _merge_highest_place(a: Any, m: int, b: Any, n: int) -> tuple[float, float]:
    if a[0] >= b[0] or a[0] != a[0]:
        return a[0], a[1]
    return b[0], b[1] + m


def _merge_lowest_place(a: Any, m: int, b: Any, n: int) -> tuple[float, float]:
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

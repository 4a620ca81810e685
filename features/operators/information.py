"""What a window tells beyond its moments: covariance, entropy, long memory, the path that it took."""

import math
from typing import Any

from features.operators.elementwise import elementwise
from features.operators.spec import WINDOW, Floats, Param, full_window, njit, operator
from features.operators.tree import tree, tree_state

AT_LEAST_2 = Param("window", minimum=2)


@elementwise(1)
def normal_cdf(a: float) -> float:
    """Probability that a standard normal variable is below a."""
    return 0.5 * math.erfc(a * -0.7071067811865476)


@elementwise(1)
def tanh(a: float) -> float:
    """Hyperbolic tangent."""
    return math.tanh(a)


def _both(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float]:
    a, b = buf[x, i], buf[y, i]
    return a, b, 0.0 * (a + b)


def _merge_both(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    dx, dy = b[0] - a[0], b[1] - a[1]
    return a[0] + dx * share, a[1] + dy * share, a[2] + b[2] + dx * dy * (m * share)


def _step(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float]:
    return buf[x, i], buf[x, i], 0.0 * buf[x, i]


def _merge_path(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    # the newer stretch of the running sum starts where the older one ends
    delta = a[0] + b[1] - a[1]
    return a[0] + b[0], a[1] + delta * share, a[2] + b[2] + delta * delta * (m * share)


def _level(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float]:
    return buf[x, i], buf[x, i], 0.0 * buf[x, i]


def _merge_fall(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    across, within = a[0] - b[1], a[2] if a[2] > b[2] else b[2]
    return (
        a[0] if a[0] > b[0] or a[0] != a[0] else b[0],
        a[1] if a[1] < b[1] or a[1] != a[1] else b[1],
        across if across > within or across != across else within,
    )


_fold_both = tree(3, _both, _merge_both)
_fold_path = tree(3, _step, _merge_path)
_fold_fall = tree(3, _level, _merge_fall)


@operator(2, (AT_LEAST_2,), tree_state(3), full_window)
def cov(
    buf: Any, n: int, out: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Sample covariance (ddof 1)."""
    _fold_both(buf, n, x, y, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[2 * chunk + i] / (window - 1)


@operator(1, (AT_LEAST_2,), tree_state(3), full_window)
def cumulative_zscore(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """How many standard deviations the running sum of x lies above its mean over the window; 0 if still."""
    _fold_path(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        distance, spread = work[i] - work[chunk + i], work[2 * chunk + i]
        buf[out, i] = distance / math.sqrt(spread / (window - 1)) if spread != 0.0 else 0.0


@operator(1, (WINDOW,), tree_state(3), full_window)
def largest_fall(
    buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Largest fall within the window from a value to a later one, in units of x; 0 if it never fell."""
    _fold_fall(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = work[2 * chunk + i]


def entropy_state(window: float, symbols: float) -> tuple[int, int]:
    """Ring position, the count of each symbol, the table of -p log p; then the window's symbols."""
    return 2 + int(symbols) + int(window), int(window)


@operator(1, (AT_LEAST_2, Param("symbols", minimum=2)), entropy_state, full_window)
def entropy(
    buf: Any,
    n: int,
    out: int,
    x: int,
    state: Floats,
    at: int,
    work: Floats,
    window: int,
    symbols: int,
) -> None:
    """Shannon entropy in nats of the window's symbols 0, 1 ... symbols - 1; a value outside is missing."""
    counts = at + 1
    surprise = counts + symbols
    ring = surprise + window + 1
    if state[surprise + 1] == 0.0:
        for count in range(1, window):
            state[surprise + count] = -(count / window) * math.log(count / window)
    position = int(state[at])
    for i in range(n):
        oldest, newest = state[ring + position], buf[x, i]
        state[ring + position] = newest
        if 0.0 <= oldest < symbols:
            state[counts + int(oldest)] -= 1.0
        if 0.0 <= newest < symbols:
            state[counts + int(newest)] += 1.0
        position += 1
        if position == window:
            position = 0
        total, known = 0.0, 0.0
        for symbol in range(symbols):
            count = state[counts + symbol]
            total += state[surprise + int(count)]
            known += count
        buf[out, i] = total if known == window else math.nan
    state[at] = position


# the weights of a much larger order overflow, and those below the first, which is 1, leave nothing
ORDER = Param("order", minimum=0.0, maximum=10.0, integer=False)
THRESHOLD = Param("threshold", minimum=1e-6, maximum=1.0, integer=False)


@njit
def memory(order: float, threshold: float) -> int:
    """How many weights of (1 - L)^order come before the first below `threshold`."""
    weight, count = 1.0, 0
    while math.fabs(weight) >= threshold:
        count += 1
        weight *= (count - 1.0 - order) / count
    return count


def memory_state(order: float, threshold: float) -> tuple[int, int]:
    """How many weights there are, a ring position, the weights; then the values twice over."""
    width = memory(order, threshold)
    return 2 + width, 2 * width


@njit
def _eight(weights: Floats, k: int, values: Floats, j: int) -> Any:
    """Eight weights times eight values that lie in a row."""
    first = weights[k] * values[j] + weights[k + 1] * values[j + 1]
    second = weights[k + 2] * values[j + 2] + weights[k + 3] * values[j + 3]
    third = weights[k + 4] * values[j + 4] + weights[k + 5] * values[j + 5]
    fourth = weights[k + 6] * values[j + 6] + weights[k + 7] * values[j + 7]
    return (first + second) + (third + fourth)


@njit
def _weigh_by_bar(buf: Any, n: int, x: int, state: Floats, at: int, work: Floats, width: int) -> None:
    weights, ring, position = at + 2, at + 2 + width, int(state[at + 1])
    for i in range(n):
        state[ring + position] = buf[x, i]
        state[ring + width + position] = buf[x, i]
        position = position + 1 if position + 1 < width else 0
        oldest, total = ring + position, 0.0
        for j in range(width % 8):
            total += state[weights + j] * state[oldest + j]
        for j in range(width % 8, width, 8):
            total += _eight(state, weights + j, state, oldest + j)
        work[i] = total
    state[at + 1] = position


@njit
def _weigh_by_lag(buf: Any, n: int, x: int, state: Floats, at: int, work: Floats, width: int) -> None:
    weights, ring, position = at + 2, at + 2 + width, int(state[at + 1])
    first = 2 * buf.shape[1]  # rows of `work`: sums, history, block
    oldest = first - width + 1
    for j in range(width):
        work[first - width + j] = state[ring + position + j]
    for i in range(n):
        work[first + i] = buf[x, i]
        work[i] = 0.0
    for j in range(width % 8):
        for i in range(n):
            work[i] += state[weights + j] * work[oldest + j + i]
    for j in range(width % 8, width, 8):
        for i in range(n):
            work[i] += _eight(state, weights + j, work, oldest + j + i)
    position = (position + n) % width
    for j in range(width):
        slot = position + j if position + j < width else position + j - width
        state[ring + slot] = work[first + n - width + j]
        state[ring + slot + width] = work[first + n - width + j]
    state[at + 1] = position


@operator(1, (ORDER, THRESHOLD), memory_state, lambda order, threshold: memory(order, threshold) - 1)
def fractional_difference(
    buf: Any,
    n: int,
    out: int,
    x: int,
    state: Floats,
    at: int,
    work: Floats,
    order: float,
    threshold: float,
) -> None:
    """(1 - L)^order x over a fixed window: weights below `threshold` are left out (Hosking 1981)."""
    if state[at] == 0.0:
        state[at] = memory(order, threshold)
        weight, newest = 1.0, at + 1 + int(state[at])
        for lag in range(int(state[at])):
            state[newest - lag] = weight
            weight *= (lag - order) / (lag + 1.0)
    width = int(state[at])
    # several bars at a time where the block is long enough: the same terms in the same order
    if n < width:
        _weigh_by_bar(buf, n, x, state, at, work, width)
    else:
        _weigh_by_lag(buf, n, x, state, at, work, width)
    for i in range(n):
        buf[out, i] = work[i]

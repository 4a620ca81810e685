"""Rolling variance, skewness, kurtosis, correlation and linear trend, merged pairwise.

Merge rules: Chan, Golub & LeVeque 1979 for two moments, Pebay 2008 (SAND2008-6212) for four and for
covariance. Equal values give a dispersion of exactly 0, whatever their size.
"""

import math
from typing import Any

from features.operators.spec import WINDOW, Floats, Param, full_window, operator
from features.operators.tree import tree, tree_state

AT_LEAST_2 = Param("window", minimum=2)
AT_LEAST_3 = Param("window", minimum=3)
AT_LEAST_4 = Param("window", minimum=4)


def _one2(buf: Any, x: int, y: int, i: int) -> tuple[float, float]:
    # a NaN must reach the second moment too: 0 * NaN is NaN
    return buf[x, i], 0.0 * buf[x, i]


def _merge2(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    delta = b[0] - a[0]
    return a[0] + delta * share, a[1] + b[1] + delta * delta * (m * share)


def _one3(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float]:
    value = buf[x, i]
    return value, 0.0 * value, 0.0 * value


def _merge3(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    delta, rest = b[0] - a[0], 1.0 - share
    weight = delta * delta * (m * share)
    return (
        a[0] + delta * share,
        a[1] + b[1] + weight,
        a[2] + b[2] + delta * (weight * (rest - share) + 3.0 * (rest * b[1] - share * a[1])),
    )


def _one4(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float, float]:
    value = buf[x, i]
    return value, 0.0 * value, 0.0 * value, 0.0 * value


def _merge4(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float, float]:
    delta, rest = b[0] - a[0], 1.0 - share
    squared = delta * delta
    weight = squared * (m * share)
    return (
        a[0] + delta * share,
        a[1] + b[1] + weight,
        a[2] + b[2] + delta * (weight * (rest - share) + 3.0 * (rest * b[1] - share * a[1])),
        a[3]
        + b[3]
        + squared * (weight * (1.0 - 3.0 * share * rest) + 6.0 * (rest * rest * b[1] + share * share * a[1]))
        + 4.0 * delta * (rest * b[2] - share * a[2]),
    )


def _one_pair(buf: Any, x: int, y: int, i: int) -> tuple[float, float, float, float, float]:
    a, b = buf[x, i], buf[y, i]
    zero = 0.0 * (a + b)
    return a, b, 0.0 * a, 0.0 * b, zero


def _merge_pair(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float, float, float]:
    dx, dy = b[0] - a[0], b[1] - a[1]
    weight = m * share
    return (
        a[0] + dx * share,
        a[1] + dy * share,
        a[2] + b[2] + dx * dx * weight,
        a[3] + b[3] + dy * dy * weight,
        a[4] + b[4] + dx * dy * weight,
    )


def _merge_trend(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float, float]:
    # the means of the two stretches' bar numbers lie (m + n) / 2 apart
    delta = b[0] - a[0]
    return (
        a[0] + delta * share,
        a[1] + b[1] + delta * delta * (m * share),
        a[2] + b[2] + delta * (0.5 * m * n),
    )


def _merge_line(a: Any, m: int, b: Any, n: int, share: float) -> tuple[float, float]:
    delta = b[0] - a[0]
    return a[0] + delta * share, a[1] + b[1] + delta * (0.5 * m * n)


_fold2 = tree(2, _one2, _merge2)
_fold3 = tree(3, _one3, _merge3)
_fold4 = tree(4, _one4, _merge4)
_fold_pair = tree(5, _one_pair, _merge_pair)
_fold_trend = tree(3, _one3, _merge_trend)
_fold_line = tree(2, _one2, _merge_line)


@operator(1, (AT_LEAST_2,), tree_state(2), full_window)
def std(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Sample standard deviation (ddof 1)."""
    _fold2(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        buf[out, i] = math.sqrt(work[chunk + i] / (window - 1))


@operator(1, (AT_LEAST_3,), tree_state(3), full_window)
def skew(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Adjusted Fisher-Pearson skewness (G1); NaN where the values are equal: it is not defined there."""
    _fold3(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    adjust = window * math.sqrt(window - 1.0) / (window - 2.0)
    for i in range(n):
        spread = work[chunk + i]
        skewed = adjust * work[2 * chunk + i] / (spread * math.sqrt(spread))
        buf[out, i] = skewed if spread > 0.0 else math.nan


@operator(1, (AT_LEAST_4,), tree_state(4), full_window)
def kurt(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Unbiased excess kurtosis (G2); NaN where the values are equal: it is not defined there."""
    _fold4(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    scale = (window - 1.0) / ((window - 2.0) * (window - 3.0))
    for i in range(n):
        spread = work[chunk + i]
        raw = window * work[3 * chunk + i] / (spread * spread)
        buf[out, i] = scale * ((window + 1.0) * raw - 3.0 * (window - 1.0)) if spread > 0.0 else math.nan


@operator(2, (AT_LEAST_2,), tree_state(5), full_window)
def corr(
    buf: Any, n: int, out: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """Pearson correlation, within [-1, 1]; NaN where either side does not vary: it is not defined there."""
    _fold_pair(buf, n, x, y, state, at, work, window)
    chunk = buf.shape[1]
    for i in range(n):
        spread = math.sqrt(work[2 * chunk + i]) * math.sqrt(work[3 * chunk + i])
        value = work[4 * chunk + i] / spread
        value = 1.0 if value > 1.0 else value
        value = -1.0 if value < -1.0 else value
        buf[out, i] = value if spread > 0.0 else math.nan


@operator(1, (AT_LEAST_2,), tree_state(2), full_window)
def slope(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Least-squares slope on the bar number, in units of x per bar."""
    _fold_line(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    spread = window * (window * window - 1.0) / 12.0
    for i in range(n):
        buf[out, i] = work[chunk + i] / spread


@operator(1, (AT_LEAST_2,), tree_state(3), full_window)
def rsquare(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Share of the variance that the straight line explains, in [0, 1]; NaN where x does not vary."""
    _fold_trend(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    spread = window * (window * window - 1.0) / 12.0
    for i in range(n):
        explained = work[2 * chunk + i] / math.sqrt(work[chunk + i]) / math.sqrt(spread)
        share = explained * explained
        share = 1.0 if share > 1.0 else share
        buf[out, i] = share if work[chunk + i] > 0.0 else math.nan


@operator(1, (WINDOW,), tree_state(2), full_window)
def wma(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats, window: int) -> None:
    """Linearly weighted mean: weight `window` on the newest value, 1 on the oldest."""
    _fold_line(buf, n, x, x, state, at, work, window)
    chunk = buf.shape[1]
    weight = 2.0 / (window * (window + 1.0))
    for i in range(n):
        buf[out, i] = work[i] + weight * work[chunk + i]

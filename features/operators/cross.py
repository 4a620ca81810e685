"""Operators that compare symbols at one time: a block runs over symbols, an infinity ends a cross-section.

Only symbols with a bar at that very time and a defined value count; the others get a missing value. The order
in which symbols come changes no bit: ranks look at values alone, and sums are exact until they are rounded.
"""

import math
from typing import Any

from features.operators.spec import Floats, njit, operator


def no_state(*_: float) -> tuple[int, int]:
    """Nothing is remembered; only the scratch memory is wanted."""
    return 0, 0


@njit
def _gather(buf: Any, n: int, out: int, x: int, work: Floats, start: int) -> tuple[int, int]:
    """Values and places of the cross-section at `start` to rows 0 and 1 of `work`: its end, their number."""
    width, count, end = buf.shape[1], 0, start
    while end < n and buf[x, end] != math.inf:
        value = buf[x, end]
        if value == value:
            work[count] = value
            work[width + count] = end
            count += 1
        buf[out, end] = math.nan
        end += 1
    if end < n:
        buf[out, end] = math.nan
    return end, count


@njit
def _sort(work: Floats, width: int, count: int) -> int:
    """Merge pairs of rows 0 and 1 into order, with rows 2 and 3: where the sorted ones begin."""
    source, target, run = 0, 2 * width, 1
    while run < count:
        for left in range(0, count, 2 * run):
            middle, right = min(left + run, count), min(left + 2 * run, count)
            i, j = left, middle
            for k in range(left, right):
                if j >= right or (i < middle and work[source + i] <= work[source + j]):
                    taken = i
                    i += 1
                else:
                    taken = j
                    j += 1
                work[target + k] = work[source + taken]
                work[target + width + k] = work[source + width + taken]
        source, target, run = target, source, 2 * run
    return source


@njit
def _exact_sum(work: Floats, first: int, count: int, parts: int) -> Any:
    """Correctly rounded sum of `work[first:first + count]`; from `parts` on stand parts that do not overlap.

    Shewchuk 1997, Adaptive precision floating-point arithmetic, theorem 10.
    """
    size = 0
    for i in range(count):
        carried, kept = work[first + i], 0
        for j in range(size):
            part = work[parts + j]
            total = carried + part
            shadow = total - carried
            error = (carried - (total - shadow)) + (part - shadow)
            if error != 0.0:
                work[parts + kept] = error
                kept += 1
            carried = total
        work[parts + kept] = carried
        size = kept + 1
    total, error = 0.0, 0.0
    while size > 0 and error == 0.0:
        size -= 1
        part = work[parts + size]
        raised = total + part
        error = part - (raised - total)
        total = raised
    # a tie was rounded to even although more follows on the far side
    if size > 0 and error * work[parts + size - 1] > 0.0 and total + 2.0 * error - total == 2.0 * error:
        total += 2.0 * error
    return total


@njit
def _center(work: Floats, count: int, parts: int) -> tuple[float, float]:
    """The mean of row 0, no further out than its values are, and the largest distance from it."""
    lowest, highest = work[0], work[0]
    for k in range(count):
        lowest, highest = min(lowest, work[k]), max(highest, work[k])
    mean = _exact_sum(work, 0, count, parts) / count
    mean = min(max(mean, lowest), highest)
    return mean, max(highest - mean, mean - lowest)


@operator(1, (), no_state)
def cs_rank(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats) -> None:
    """Rank among the symbols as a share of them, in (0, 1], ties averaged."""
    width, start = buf.shape[1], 0
    while start < n:
        end, count = _gather(buf, n, out, x, work, start)
        ranked = _sort(work, width, count)
        first = 0
        while first < count:
            last = first + 1
            while last < count and work[ranked + last] == work[ranked + first]:
                last += 1
            for k in range(first, last):
                place = int(work[ranked + width + k])
                buf[out, place] = (first + 0.5 * (last - first + 1)) / count
            first = last
        start = end + 1


@operator(1, (), no_state)
def cs_demean(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats) -> None:
    """The value less the mean of all symbols."""
    width, start = buf.shape[1], 0
    while start < n:
        end, count = _gather(buf, n, out, x, work, start)
        if count > 0:
            mean, _ = _center(work, count, 3 * width)
            for k in range(count):
                buf[out, int(work[width + k])] = work[k] - mean
        start = end + 1


@operator(1, (), no_state)
def cs_zscore(buf: Any, n: int, out: int, x: int, state: Floats, at: int, work: Floats) -> None:
    """Distance from the mean of all symbols in standard deviations (n - 1); 0 where all are equal, missing
    for one symbol alone."""
    width, start = buf.shape[1], 0
    while start < n:
        end, count = _gather(buf, n, out, x, work, start)
        if count > 1:
            mean, reach = _center(work, count, 3 * width)
            unit = reach if reach > 0.0 else 1.0
            # squares of shares of the largest distance neither overflow nor vanish
            for k in range(count):
                work[k] = (work[k] - mean) / unit
                work[2 * width + k] = work[k] * work[k]
            deviation = math.sqrt(_exact_sum(work, 2 * width, count, 3 * width) / (count - 1))
            for k in range(count):
                buf[out, int(work[width + k])] = work[k] / deviation if reach > 0.0 else 0.0
        start = end + 1

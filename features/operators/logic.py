"""Operators for conditions: several at once, a value between or beside others, one confirmed later."""

import math
from typing import Any

from features.operators.elementwise import elementwise
from features.operators.spec import Floats, Param, operator

NAN = math.nan


@elementwise(3)
def all3(a: float, b: float, c: float) -> float:
    """1 where all three conditions are 1, 0 where any is 0: their product."""
    return a * b * c


@operator(4)
def all4(buf: Any, n: int, out: int, a: int, b: int, c: int, d: int) -> None:
    """1 where all four conditions are 1, 0 where any is 0: their product."""
    for i in range(n):
        buf[out, i] = buf[a, i] * buf[b, i] * (buf[c, i] * buf[d, i])


@elementwise(3)
def between(x: float, a: float, b: float) -> float:
    """1 where x lies strictly between a and b, whichever of them is the larger, else 0."""
    if x != x or a != a or b != b:
        return NAN
    return 1.0 if (a < x and x < b) or (b < x and x < a) else 0.0


@elementwise(3)
def beside(a: float, b: float, distance: float) -> float:
    """1 where a and b are at most `distance` apart, else 0."""
    gap = math.fabs(a - b)
    if gap != gap or distance != distance:
        return NAN
    return 1.0 if gap <= distance else 0.0


def _confirmation(*_: float) -> tuple[int, int]:
    """State: complete bars in a row, bars left to confirm, the pattern, its upper and lower bound."""
    return 5, 0


@operator(4, (Param("bars", minimum=1),), _confirmation, int)
def confirmed(
    buf: Any,
    n: int,
    out: int,
    pattern: int,
    price: int,
    upper: int,
    lower: int,
    state: Floats,
    at: int,
    work: Floats,
    bars: int,
) -> None:
    """`pattern` where it is not 0; twice the latest one at the first of the next `bars` bars whose `price` is
    above the `upper` of a positive one, or below the `lower` of a negative one; else 0."""
    known, left, latest = state[at], state[at + 1], state[at + 2]
    above, below = state[at + 3], state[at + 4]
    for i in range(n):
        found, value, high, low = buf[pattern, i], buf[price, i], buf[upper, i], buf[lower, i]
        result = 0.0
        if found != found or value != value or high != high or low != low:
            known, left = 0.0, 0.0
        else:
            known = min(known + 1.0, bars + 1.0)
            if found != 0.0:
                result = latest = found
                above, below, left = high, low, float(bars)
            elif left > 0.0:
                left -= 1.0
                if (latest > 0.0 and value > above) or (latest < 0.0 and value < below):
                    result, left = 2.0 * latest, 0.0
        buf[out, i] = result if known > bars else NAN
    state[at], state[at + 1], state[at + 2] = known, left, latest
    state[at + 3], state[at + 4] = above, below

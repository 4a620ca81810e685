"""Sine and cosine by polynomials, several bars at a time and with the same bits on every machine.

The argument is brought to [-pi/4, pi/4] with pi/2 in three parts (Cody & Waite 1980), exact for up to 2^20
quarter turns; the polynomials are those of FDLIBM (Sun 1993), with errors below 2^-57. Beyond 2^20 quarter
turns the C library answers.
"""

import math
from collections.abc import Callable
from typing import Any

from features.operators.spec import njit, operator

_QUARTER = 1.57079632673412561417e00
_QUARTER_2 = 6.07710050630396597660e-11
_QUARTER_3 = 2.02226624879595063154e-21
_QUARTERS_PER_RADIAN = 0.63661977236758134308
_MOST = 1048576.0


@njit
def _wave(x: float, ahead: float) -> float:
    """Sine of `x` and `ahead` quarter turns."""
    turns = math.floor(x * _QUARTERS_PER_RADIAN + 0.5)
    r = ((x - turns * _QUARTER) - turns * _QUARTER_2) - turns * _QUARTER_3
    z = r * r
    tail = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
    )
    sine = r + z * r * (-1.66666666666666324348e-01 + z * tail)
    tail = -2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11)
    tail = 4.16666666666666019037e-02 + z * (
        -1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 + z * tail)
    )
    half = 0.5 * z
    rest = 1.0 - half
    cosine = rest + (((1.0 - rest) - half) + z * z * tail)
    quarter = turns + ahead
    quarter = quarter - 4.0 * math.floor(0.25 * quarter)
    odd = quarter == 1.0 or quarter == 3.0
    value = cosine if odd else sine
    return -value if quarter >= 2.0 else value


def _circular(ahead: float, library: Callable[[float], float]) -> Callable[..., None]:
    """A block of sines `ahead` quarter turns on; `library` answers for angles that are too large."""

    @njit
    def block(buf: Any, n: int, out: int, x: int) -> None:
        far = 0
        for i in range(n):
            angle = buf[x, i]
            buf[out, i] = _wave(angle, ahead)
            far += math.fabs(angle) > _MOST
        if far:
            for i in range(n):
                if math.fabs(buf[x, i]) > _MOST:
                    buf[out, i] = library(buf[x, i])

    return block


_sines, _cosines = _circular(0.0, math.sin), _circular(1.0, math.cos)


@operator(1)
def sin(buf: Any, n: int, out: int, x: int) -> None:
    """Sine of radians."""
    _sines(buf, n, out, x)


@operator(1)
def cos(buf: Any, n: int, out: int, x: int) -> None:
    """Cosine of radians."""
    _cosines(buf, n, out, x)

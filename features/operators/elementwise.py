"""Operators that look at one bar only. A missing input gives a missing result, comparisons included."""

import math
from collections.abc import Callable
from typing import Any

from features.operators.spec import Param, njit, operator

NAN = math.nan


def _unary(scalar: Callable[..., float]) -> Callable[..., None]:
    def kernel(buf: Any, n: int, out: int, a: int) -> None:
        for i in range(n):
            buf[out, i] = scalar(buf[a, i])

    return kernel


def _binary(scalar: Callable[..., float]) -> Callable[..., None]:
    def kernel(buf: Any, n: int, out: int, a: int, b: int) -> None:
        for i in range(n):
            buf[out, i] = scalar(buf[a, i], buf[b, i])

    return kernel


def _ternary(scalar: Callable[..., float]) -> Callable[..., None]:
    def kernel(buf: Any, n: int, out: int, a: int, b: int, c: int) -> None:
        for i in range(n):
            buf[out, i] = scalar(buf[a, i], buf[b, i], buf[c, i])

    return kernel


def _binary_param(scalar: Callable[..., float]) -> Callable[..., None]:
    def kernel(buf: Any, n: int, out: int, a: int, b: int, param: float) -> None:
        for i in range(n):
            buf[out, i] = scalar(buf[a, i], buf[b, i], param)

    return kernel


_BLOCKS = {(1, 0): _unary, (2, 0): _binary, (3, 0): _ternary, (2, 1): _binary_param}


def elementwise(
    inputs: int, params: tuple[Param, ...] = ()
) -> Callable[[Callable[..., float]], Callable[..., None]]:
    """Make a block kernel of a function of single values and register it."""

    def register(scalar: Callable[..., float]) -> Callable[..., None]:
        kernel = _BLOCKS[inputs, len(params)](njit(scalar))
        kernel.__name__, kernel.__module__ = scalar.__name__, scalar.__module__
        return operator(inputs, params, described_by=scalar)(kernel)

    return register


@elementwise(2)
def add(a: float, b: float) -> float:
    """Sum."""
    return a + b


@elementwise(2)
def sub(a: float, b: float) -> float:
    """Difference."""
    return a - b


@elementwise(2)
def mul(a: float, b: float) -> float:
    """Product."""
    return a * b


@elementwise(2)
def div(a: float, b: float) -> float:
    """Quotient; NaN where b is 0."""
    return a / b if b != 0.0 else NAN


@elementwise(2, (Param("otherwise", integer=False),))
def ratio(a: float, b: float, otherwise: float) -> float:
    """a / b, and `otherwise` where b is 0: how flat prices and empty volume get a stated value."""
    quotient = a / b
    return quotient if b != 0.0 or a != a else otherwise


@elementwise(1)
def neg(a: float) -> float:
    """Opposite sign."""
    return -a


@elementwise(1)
def abs(a: float) -> float:
    """Absolute value."""
    return math.fabs(a)


@elementwise(1)
def sign(a: float) -> float:
    """1, 0 or -1."""
    if a > 0.0:
        return 1.0
    return -1.0 if a < 0.0 else a


@elementwise(1)
def square(a: float) -> float:
    """a * a."""
    return a * a


@elementwise(1)
def sqrt(a: float) -> float:
    """Square root; NaN below 0."""
    return math.sqrt(a) if a >= 0.0 else NAN


@elementwise(1)
def log(a: float) -> float:
    """Natural logarithm; NaN at 0 and below."""
    return math.log(a) if a > 0.0 else NAN


@elementwise(2)
def max(a: float, b: float) -> float:
    """The larger of the two, bar by bar."""
    return a if a > b or a != a else b


@elementwise(2)
def min(a: float, b: float) -> float:
    """The smaller of the two, bar by bar."""
    return a if a < b or a != a else b


@elementwise(2)
def gt(a: float, b: float) -> float:
    """1 where a > b, else 0."""
    if a != a or b != b:
        return NAN
    return 1.0 if a > b else 0.0


@elementwise(2)
def ge(a: float, b: float) -> float:
    """1 where a >= b, else 0."""
    if a != a or b != b:
        return NAN
    return 1.0 if a >= b else 0.0


@elementwise(3)
def where(condition: float, a: float, b: float) -> float:
    """a where `condition` is not 0, else b."""
    if condition != condition:
        return NAN
    return a if condition != 0.0 else b

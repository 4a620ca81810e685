"""JSON numbers into float32, as machine code: made by `features.compiler`, called by `serving.numerals`.

A general parser makes the exact double, which float32 rounds anyway. This one multiplies the digits by a
power of ten in double, which is off by less than four units in the last place, and gives up where that could
change the float32: nearer than that to the middle between two of them. It gives up on all that is rare, too,
and whoever called it takes the general way: so what it does return is, bit for bit, float32(float64(text)),
and all of it was valid JSON.

Source of the eight digits at once: Daniel Lemire, "Number parsing at a gigabyte per second" (2021).
"""

from typing import Any

import numpy as np

from features.compiler import bits_of, eight_at, singles_at, trailing_zeros
from features.layout import (
    CAPACITY,
    COUNT,
    DEEPEST,
    DEPTH,
    END,
    LENGTH,
    SIZES,
    START,
    VALUES_AT,
)
from features.operators.spec import njit

_U = np.uint64
_ZEROS, _ABOVE_NINE = _U(0x3030303030303030), _U(0x4646464646464646)
_NOT_DIGITS = _U(0x8080808080808080)
_PAIRS, _LOW = _U(0x000000FF000000FF), _U(0xFFFFFFFF)
_HUNDREDS, _ONES = _U(0x000F424000000064), _U(0x0000271000000001)
_WHOLE = np.array([10**k for k in range(9)], dtype=np.uint64)
# powers of ten, of which more than these are rare
_LEAST, _MOST = -44, 22
_POWERS = np.array([float(f"1e{k}") for k in range(_LEAST, _MOST + 1)])
# digits that fit 64 bits, and the integer up to which a double has them all
_DIGITS, _EXACT = 19, _U(1 << 53)
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# of a double, the bits that float32 drops; the middle of two floats, and how near to it is too near
_DROPPED, _MIDDLE, _NEAR = _U((1 << 29) - 1), _U(1 << 28), _U(4)


@njit
def eight_digits(t: Any) -> Any:
    """The number that eight digits are, the first in the lowest byte, each less the letter "0"."""
    t = t * _U(10) + (t >> _U(8))
    return (((t & _PAIRS) * _HUNDREDS + ((t >> _U(16)) & _PAIRS) * _ONES) >> _U(32)) & _LOW


@njit
def beyond_space(text: Any, i: int) -> int:
    """The first place from `i` on that is not white space."""
    while text[i] == 32 or 9 <= text[i] <= 10 or text[i] == 13:
        i += 1
    return i


@njit
def is_digit(text: Any, i: int) -> bool:
    """Whether there is one at `i`."""
    return bool(48 <= text[i] <= 57)


@njit
def is_null(text: Any, i: int) -> bool:
    """Whether the word is at `i`."""
    return bool(text[i] == 110 and text[i + 1] == 117 and text[i + 2] == 108 and text[i + 3] == 108)


def numerals(text: Any, context: Any) -> None:
    """Read nested lists of numbers and null from `text`, which ends with a zero byte.

    From START, where the first "[" is: COUNT values are written, -1 when this is not for us; END is the
    place after the last "]"; DEPTH lists deep, each of the outermost has SIZES[0] items, theirs have
    SIZES[1] and so on. null is NaN.
    """
    out, room, length = singles_at(context[VALUES_AT]), context[CAPACITY], context[LENGTH]
    i, k, depth, leaf = context[START], 0, 0, 0
    context[COUNT] = -1
    for level in range(DEEPEST):
        context[SIZES + level] = -1
    if room < (length - i) // 2 + 1:
        return
    # lists so far in those that are open
    first = second = 0
    while True:
        # a list begins here, or its numbers do
        i = beyond_space(text, i)
        if text[i] == 91:
            depth += 1
            if depth > DEEPEST or (leaf > 0 and depth > leaf):
                return
            i += 1
            continue
        if depth == 0 or (leaf > 0 and depth != leaf):
            return
        leaf, began_list = depth, k
        while True:
            if text[i] <= 32:
                i = beyond_space(text, i)
            # signs are as random as coins: no branch
            minus = int(text[i] == 45)
            began = i + minus
            i = began
            if not is_digit(text, i):
                if not is_null(text, i) or minus == 1:
                    return
                out[k] = np.float32(np.nan)
                i += 4
            else:
                w = _U(text[i] - 48)
                i += 1
                if is_digit(text, i):
                    if w == _U(0):
                        return
                    while is_digit(text, i):
                        w = w * _U(10) + _U(text[i] - 48)
                        i += 1
                ten = 0
                if text[i] == 46:
                    i += 1
                    point = i
                    while i + 8 <= length:
                        t = eight_at(text, i) - _ZEROS
                        others = ((t + _ZEROS + _ABOVE_NINE) | t) & _NOT_DIGITS
                        if others == _U(0):
                            w = w * _WHOLE[_U(8)] + eight_digits(t)
                            i += 8
                        else:
                            some = trailing_zeros(others) >> 3
                            # what is not a digit goes out at the top, zeros come in before the first
                            half = _U(32 - 4 * some)
                            w = w * _WHOLE[_U(some)] + eight_digits((t << half) << half)
                            i += some
                            break
                    while is_digit(text, i):
                        w = w * _U(10) + _U(text[i] - 48)
                        i += 1
                    if i == point:
                        return
                    ten = point - i
                digits = i - began - int(ten < 0)
                if digits > _DIGITS:
                    # zeros before the first other digit need no room
                    other = began
                    while text[other] == 48 or text[other] == 46:
                        other += 1
                    if digits - max(other - began - 1, 0) > _DIGITS:
                        return
                if text[i] == 101 or text[i] == 69:
                    i += 1
                    less = text[i] == 45
                    i += int(less or text[i] == 43)
                    point, power = i, 0
                    while is_digit(text, i):
                        power = power * 10 + int(text[i]) - 48
                        i += 1
                    if not 0 < i - point <= 3:
                        return
                    ten += -power if less else power
                if not _LEAST <= ten <= _MOST:
                    return
                # three roundings: of the digits, of the power and of the product
                x = float(w) * _POWERS[_U(ten - _LEAST)]
                if x > _LARGEST or (x < _SMALLEST and w > _U(0)):
                    return
                # integers are often in the middle, and exact
                if ten != 0 or w > _EXACT:
                    dropped = bits_of(x) & _DROPPED
                    if _MIDDLE - _NEAR <= dropped <= _MIDDLE + _NEAR:
                        return
                out[k] = np.float32(x * (1 - 2 * minus))
            k += 1
            if text[i] <= 32:
                i = beyond_space(text, i)
            if text[i] != 44:
                break
            i += 1
        # the list ends here, and perhaps those around it
        items = k - began_list
        while True:
            if text[i] != 93:
                return
            i += 1
            at = SIZES + depth - 1
            if context[at] >= 0 and context[at] != items:
                return
            context[at] = items
            depth -= 1
            if depth == 0:
                context[DEPTH], context[END], context[COUNT] = leaf, i, k
                return
            i = beyond_space(text, i)
            if depth == 1:
                first += 1
                items = first
            else:
                second += 1
                items = second
            if text[i] == 44:
                i += 1
                break
            if depth == 2:
                second = 0

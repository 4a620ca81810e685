"""Stops and swings: what the price did last, without a look at what it did next.

Parabolic SAR and SuperTrend depend on their path: two streams that began at different bars follow different
stops until both turn together, and agree from then on. Their warm-ups are nominal: with them, every pair
of streams begun at about 400 places of five real series (S&P 500, Nvidia and Oracle by day, EUR/USD by hour,
an index future by minute) agreed.
"""

import math
from typing import Any

from features.operators.spec import WINDOW, Floats, Param, full_window, operator

# a stop that steps further than to the extreme would lie beyond it
ACCELERATION = Param("acceleration", minimum=0.001, maximum=1.0, integer=False)
MAXIMUM = Param("maximum", minimum=0.001, maximum=1.0, integer=False)
MULTIPLIER = Param("multiplier", minimum=0.1, maximum=50.0, integer=False)


def _stop_state(*_: float) -> tuple[int, int]:
    """State: side (0 before the seed), then stop, extreme, acceleration, the bar before's high and low."""
    return 1, 5


def _band_state(*_: float) -> tuple[int, int]:
    """State: side (0 before the seed), then the upper band, the lower band and the close before."""
    return 1, 3


def _event_state(*_: float) -> tuple[int, int]:
    """State: bars since the event, bars since an undefined input, then the value at the event."""
    return 2, 1


def _stop_agrees(acceleration: float, maximum: float) -> int:
    """The slowest pairs took 140 bars at 0.02 and 300 at 0.01."""
    return math.ceil(3.0 / acceleration)


def _bands_agree(multiplier: float) -> int:
    """The slowest pairs took 19, 48 and 102 bars at 1, 2 and 3: the time in which a walk goes that far."""
    return math.ceil(12.0 * multiplier * multiplier) + 8


@operator(2, (ACCELERATION, MAXIMUM), _stop_state, _stop_agrees)
def sar(
    buf: Any,
    n: int,
    out: int,
    high: int,
    low: int,
    state: Floats,
    at: int,
    work: Floats,
    acceleration: float,
    maximum: float,
) -> None:
    """Parabolic stop and reverse (Wilder 1978), long from the first bar: below the price if long, else above.

    The stop of a bar is set by the bars before it; a bar that touches it turns it to the other side.
    """
    side, stop, extreme = state[at], state[at + 1], state[at + 2]
    speed, high_before, low_before = state[at + 3], state[at + 4], state[at + 5]
    for i in range(n):
        top, bottom = buf[high, i], buf[low, i]
        if top != top or bottom != bottom:
            buf[out, i] = math.nan
            continue
        if side == 0.0:
            side, stop, extreme, speed = 1.0, bottom, top, acceleration
            high_before, low_before = top, bottom
        elif bottom <= stop if side > 0.0 else top >= stop:
            side, speed = -side, acceleration
            stop, extreme = (min(extreme, bottom), top) if side > 0.0 else (max(extreme, top), bottom)
        elif side > 0.0 and top > extreme:
            extreme, speed = top, min(speed + acceleration, maximum)
        elif side < 0.0 and bottom < extreme:
            extreme, speed = bottom, min(speed + acceleration, maximum)
        buf[out, i] = stop
        stop = stop + speed * (extreme - stop)
        stop = min(stop, bottom, low_before) if side > 0.0 else max(stop, top, high_before)
        high_before, low_before = top, bottom
    state[at], state[at + 1], state[at + 2] = side, stop, extreme
    state[at + 3], state[at + 4], state[at + 5] = speed, high_before, low_before


@operator(3, (MULTIPLIER,), _band_state, _bands_agree)
def supertrend(
    buf: Any,
    n: int,
    out: int,
    middle: int,
    spread: int,
    close: int,
    state: Floats,
    at: int,
    work: Floats,
    multiplier: float,
) -> None:
    """The band at `multiplier` times `spread` on the other side of the trend, up from the first bar.

    A band moves only towards the price until a close has been beyond it, which turns the trend (Seban).
    """
    side, upper, lower, before = state[at], state[at + 1], state[at + 2], state[at + 3]
    for i in range(n):
        reach, price = multiplier * buf[spread, i], buf[close, i]
        top, bottom = buf[middle, i] + reach, buf[middle, i] - reach
        if top != top or bottom != bottom or price != price:
            buf[out, i] = math.nan
            continue
        if side == 0.0:
            side, upper, lower = 1.0, top, bottom
        else:
            upper = top if top < upper or before > upper else upper
            lower = bottom if bottom > lower or before < lower else lower
            if side > 0.0 and price < lower:
                side = -1.0
            elif side < 0.0 and price > upper:
                side = 1.0
        before = price
        buf[out, i] = lower if side > 0.0 else upper
    state[at], state[at + 1], state[at + 2], state[at + 3] = side, upper, lower, before


@operator(2, (WINDOW,), _event_state, full_window)
def value_when(
    buf: Any, n: int, out: int, condition: int, x: int, state: Floats, at: int, work: Floats, window: int
) -> None:
    """x as of the last bar of the window on which `condition` is not 0; the newest x if there is none."""
    age, defined, value = state[at], state[at + 1], state[at + 2]
    for i in range(n):
        event, fresh = buf[condition, i], buf[x, i]
        age = min(age + 1.0, float(window))
        defined = min(defined + 1.0, float(window))
        if event != event or fresh != fresh:
            defined = 0.0
        elif event != 0.0:
            age, value = 0.0, fresh
        held = value if age < window else fresh
        buf[out, i] = held if defined >= window else math.nan
    state[at], state[at + 1], state[at + 2] = age, defined, value

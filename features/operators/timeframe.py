"""Bars of a coarser timeframe, made of the bars as they come, and what is computed on them held for each bar.

`clock` says at every bar which coarse bars close there; one operator per column makes their values, `n` bars
giving up to n + 1 coarse ones; `on` gives each bar the value of the last closed coarse bar; `settled` keeps
back what is not warm yet. A coarse bar holds the bars whose close lies in (end - seconds, end], with ends
counted from `anchor`. It closes at the bar that closes at its end, or, when that one is missing, at the
first later bar: then it is known to be over. The coarse bar in which a stream begins may lack its first bars
and never counts.

Of these an expression calls `on` alone; `features.operations` puts the others where it needs them.
"""

import math
from collections.abc import Callable
from typing import Any

from features.operators.spec import Floats, Param, njit, no_warmup, operator

# what a value of `clock` is the sum of
BEGINS, CLOSES_EARLIER, CLOSES_HERE = 1, 2, 4
SECONDS, ANCHOR = Param("seconds", minimum=1, integer=False), Param("anchor", integer=False)


def _clock_state(*_: float) -> tuple[int, int]:
    """State: coarse bars that closed in this block, whether the present one will count, its end."""
    return 2, 1


@njit
def _end(time: float, seconds: float, anchor: float) -> float:
    end = math.ceil((time - anchor) / seconds) * seconds + anchor
    # before 1970 the difference may lose the last bit of a moment after an end
    return end if end >= time else end + seconds


@operator(1, (SECONDS, ANCHOR), _clock_state, spoken=False)
def clock(
    buf: Any, n: int, out: int, time: int, state: Floats, at: int, work: Floats, seconds: float, anchor: float
) -> None:
    """At every bar: does it begin a coarse bar, close the one before, close its own."""
    closed, counts, end = 0, state[at + 1] > 0.0, state[at + 2]
    for i in range(n):
        now, step = buf[time, i], 0
        if not now <= end:  # the first end is NaN
            step = BEGINS
            if counts:
                step += CLOSES_EARLIER
                closed += 1
            counts = end == end
            end = _end(now, seconds, anchor)
        if counts and now == end:
            step += CLOSES_HERE
            closed += 1
            counts = False
        buf[out, i] = step
    state[at], state[at + 1], state[at + 2] = closed, counts, end


def _one_value(*_: float) -> tuple[int, int]:
    """State: the value of the coarse bar so far."""
    return 0, 1


def _column(name: str, join: Callable[[float, float], float], meaning: str) -> None:
    """Register the operator that makes a coarse column: a bar's value, joined to those before it."""
    join = njit(join)

    def kernel(buf: Any, n: int, out: int, x: int, clock: int, state: Floats, at: int, work: Floats) -> None:
        value, done = state[at], 0
        for i in range(n):
            step = int(buf[clock, i])
            if step & CLOSES_EARLIER:
                buf[out, done] = value
                done += 1
            value = buf[x, i] if step & BEGINS else join(value, buf[x, i])
            if step & CLOSES_HERE:
                buf[out, done] = value
                done += 1
        state[at] = value

    kernel.__name__, kernel.__doc__ = f"coarse_{name}", meaning
    operator(2, (), _one_value, spoken=False)(kernel)


_column("open", lambda value, x: value, "The first open.")
_column("high", lambda value, x: x if x > value else value, "The highest high.")
_column("low", lambda value, x: x if x < value else value, "The lowest low.")
_column("close", lambda value, x: x, "The last close.")
_column("volume", lambda value, x: value + x, "The sum of volume, oldest first.")


@operator(2, (SECONDS, ANCHOR), _one_value, spoken=False)
def coarse_time(
    buf: Any,
    n: int,
    out: int,
    time: int,
    clock: int,
    state: Floats,
    at: int,
    work: Floats,
    seconds: float,
    anchor: float,
) -> None:
    """The end of the coarse bar, whenever its last bar came."""
    last, done = state[at], 0
    for i in range(n):
        step = int(buf[clock, i])
        if step & CLOSES_EARLIER:
            buf[out, done] = _end(last, seconds, anchor)
            done += 1
        last = buf[time, i]
        if step & CLOSES_HERE:
            buf[out, done] = last
            done += 1
    state[at] = last


def _on(timeframe: str, x: float) -> None:
    """x computed on the bars of a coarser timeframe: its value at the last of them that is closed."""


@operator(2, (), _one_value, lambda: 1, described_by=_on)
def on(buf: Any, n: int, out: int, clock: int, x: int, state: Floats, at: int, work: Floats) -> None:
    value, done = state[at], 0
    for i in range(n):
        step = int(buf[clock, i])
        if step > BEGINS:
            done += (step & CLOSES_EARLIER) // CLOSES_EARLIER + (step & CLOSES_HERE) // CLOSES_HERE
            value = buf[x, done - 1]
        buf[out, i] = value
    state[at] = value


def _settled_state(*_: float) -> tuple[int, int]:
    """State: coarse bars closed so far, and bars since there were enough."""
    return 2, 0


@operator(2, (Param("closed", minimum=1), Param("bars", minimum=0)), _settled_state, no_warmup, spoken=False)
def settled(
    buf: Any,
    n: int,
    out: int,
    x: int,
    clock: int,
    state: Floats,
    at: int,
    work: Floats,
    closed: int,
    bars: int,
) -> None:
    """x, but NaN until `closed` coarse bars are closed and `bars` bars have come after that."""
    seen, age = state[at], state[at + 1]
    for i in range(n):
        step = int(buf[clock, i])
        seen += (step & CLOSES_EARLIER) // CLOSES_EARLIER + (step & CLOSES_HERE) // CLOSES_HERE
        if seen >= closed:
            age += 1.0
        buf[out, i] = buf[x, i] if age > bars else math.nan
    state[at], state[at + 1] = seen, age

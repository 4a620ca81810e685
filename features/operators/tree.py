"""Rolling statistics by pairwise merging: no subtraction, no drift, no memory of how far back history goes.

Write A_m[t] for a statistic of the m values that end at t. Then A_2m[t] = merge(A_m[t-m], A_m[t]) and
A_(m+1)[t] = merge(A_m[t-1], x[t]), so the bits of the window length, read from the top, lead to A_w in
at most 2 log2(w) merges per bar. What is merged with what depends on the distance to t alone: a value is
the same bits wherever the stream began, a NaN or a huge price leaves no trace once it has left the
window, and the error is that of a pairwise sum. State: one ring of m statistics per doubling, about w in all.
"""

from collections.abc import Callable
from typing import Any

from features.operators.spec import Floats, njit


def tree_state(channels: int) -> Callable[..., tuple[int, int]]:
    """Ring positions (zeros), then a ring and one carried statistic per doubling (NaN)."""

    def size(window: float, *_: float) -> tuple[int, int]:
        width = int(window)
        levels = width.bit_length() - 1
        rings = sum(width >> (bit + 1) for bit in range(levels))
        return levels, channels * (rings + levels)

    return size


@njit
def _load1(values: Floats, at: int, stride: int) -> tuple[float, ...]:
    return (values[at],)


@njit
def _load2(values: Floats, at: int, stride: int) -> tuple[float, ...]:
    return values[at], values[at + stride]


@njit
def _load3(values: Floats, at: int, stride: int) -> tuple[float, ...]:
    return values[at], values[at + stride], values[at + 2 * stride]


@njit
def _load4(values: Floats, at: int, stride: int) -> tuple[float, ...]:
    return values[at], values[at + stride], values[at + 2 * stride], values[at + 3 * stride]


@njit
def _load5(values: Floats, at: int, stride: int) -> tuple[float, ...]:
    return (
        values[at],
        values[at + stride],
        values[at + 2 * stride],
        values[at + 3 * stride],
        values[at + 4 * stride],
    )


@njit
def _store(values: Floats, at: int, stride: int, statistic: Any) -> None:
    for channel in range(len(statistic)):
        values[at + channel * stride] = statistic[channel]


_LOADS = {1: _load1, 2: _load2, 3: _load3, 4: _load4, 5: _load5}


def tree(channels: int, single: Callable[..., Any], merge: Callable[..., Any]) -> Callable[..., None]:
    """The fold for one statistic.

    `single(buf, x, y, i)` is the statistic of one value; `merge(older, m, newer, n)` of two neighbouring
    stretches of m and n values. The result lies in `work`, channel after channel.
    """
    load = _LOADS[channels]
    single, merge = njit(single), njit(merge)

    @njit
    def double(work: Floats, n: int, chunk: int, state: Floats, ring: int, size: int, position: int) -> int:
        done = 0
        while done < n:
            count = min(n - done, size - position)
            slot = ring + position
            for j in range(count):
                older = load(state, slot + j, size)
                newer = load(work, done + j, chunk)
                _store(state, slot + j, size, newer)
                _store(work, done + j, chunk, merge(older, size, newer, size))
            done += count
            position += count
            if position == size:
                position = 0
        return position

    @njit
    def append(
        buf: Floats, x: int, y: int, work: Floats, n: int, chunk: int, state: Floats, carry: int, size: int
    ) -> None:
        older = load(state, carry, 1)
        for i in range(n):
            newer = load(work, i, chunk)
            _store(work, i, chunk, merge(older, size, single(buf, x, y, i), 1))
            older = newer
        _store(state, carry, 1, older)

    @njit
    def fold(buf: Floats, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        chunk = buf.shape[1]
        for i in range(n):
            _store(work, i, chunk, single(buf, x, y, i))
        levels = 0
        while window >> (levels + 1):
            levels += 1
        ring, size = at + levels, 1
        for level in range(levels):
            position = int(state[at + level])
            state[at + level] = double(work, n, chunk, state, ring, size, position)
            ring += channels * size
            size *= 2
            if (window >> (levels - 1 - level)) & 1:
                append(buf, x, y, work, n, chunk, state, ring, size)
                size += 1
            ring += channels

    return fold  # type: ignore[no-any-return]

"""Rolling statistics by pairwise merging: no subtraction, no drift, no memory of how far back history goes.

Write A_m[t] for a statistic of the m values that end at t. Then A_2m[t] = merge(A_m[t-m], A_m[t]) and
A_(m+1)[t] = merge(A_m[t-1], x[t]), so the bits of the window length, read from the top, lead to A_w in
at most 2 log2(w) merges per bar. What is merged with what depends on the distance to t alone: a value is
the same bits wherever the stream began, a NaN or a huge price leaves no trace once it has left the
window, and the error is that of a pairwise sum. State: one ring of m statistics per doubling, about w in all.

A block of at least `window` bars is merged level by level in straight loops over a stretch of memory, history
first and block after it, which processors do several bars at a time; a shorter one bar by bar, from ring to
ring. Same merges, same bits.
"""

from collections.abc import Callable
from typing import Any

from features.operators.spec import Floats, njit

# rows of `work`: results take the first, then two stretches per channel, each of two rows: history, block
_CHANNELS = 5
_STRETCHES = (_CHANNELS, 3 * _CHANNELS)


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

    `single(buf, x, y, i)` is the statistic of one value; `merge(older, m, newer, n, share)` that of two
    neighbouring stretches of m and n values, `share` being n / (m + n). The result lies in `work`, channel
    after channel.
    """
    load = _LOADS[channels]
    single, merge = njit(single), njit(merge)
    first, second = _STRETCHES

    @njit
    def straight(
        work: Floats,
        n: int,
        chunk: int,
        state: Floats,
        ring: int,
        size: int,
        position: int,
        a: int,
        b: int,
        row: int,
    ) -> int:
        """Double a stretch of at least `size` values: from `a` to `b`, whose channels are `row` apart."""
        stretch = 2 * chunk
        for channel in range(channels):
            kept, past = ring + channel * size, a + channel * stretch - size
            for j in range(size - position):
                work[past + j] = state[kept + position + j]
            for j in range(position):
                work[past + size - position + j] = state[kept + j]
        for i in range(n):
            _store(
                work,
                b + i,
                row,
                merge(load(work, a + i - size, stretch), size, load(work, a + i, stretch), size, 0.5),
            )
        position = (position + n) % size
        for channel in range(channels):
            kept, recent = ring + channel * size, a + channel * stretch + n - size
            for j in range(size - position):
                state[kept + position + j] = work[recent + j]
            for j in range(position):
                state[kept + j] = work[recent + size - position + j]
        return position

    @njit
    def append(
        buf: Floats,
        x: int,
        y: int,
        work: Floats,
        n: int,
        chunk: int,
        state: Floats,
        carry: int,
        size: int,
        a: int,
        b: int,
        row: int,
    ) -> None:
        """Merge every value of the block to the stretch that ends just before it."""
        stretch, share = 2 * chunk, 1.0 / (size + 1)
        _store(work, b, row, merge(load(state, carry, 1), size, single(buf, x, y, 0), 1, share))
        _store(state, carry, 1, load(work, a + n - 1, stretch))
        for i in range(1, n):
            _store(
                work, b + i, row, merge(load(work, a + i - 1, stretch), size, single(buf, x, y, i), 1, share)
            )

    @njit
    def step(
        buf: Floats, i: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int, levels: int
    ) -> None:
        """All merges of one bar, from ring to ring."""
        newest = single(buf, x, y, i)
        whole, ring, size = newest, at + levels, 1
        for level in range(levels):
            position = int(state[at + level])
            older = load(state, ring + position, size)
            _store(state, ring + position, size, whole)
            whole = merge(older, size, whole, size, 0.5)
            state[at + level] = position + 1 if position + 1 < size else 0
            ring += channels * size
            size *= 2
            if (window >> (levels - 1 - level)) & 1:
                older = load(state, ring, 1)
                _store(state, ring, 1, whole)
                whole = merge(older, size, newest, 1, 1.0 / (size + 1))
                size += 1
            ring += channels
        _store(work, i, buf.shape[1], whole)

    @njit
    def fold(buf: Floats, n: int, x: int, y: int, state: Floats, at: int, work: Floats, window: int) -> None:
        levels = 0
        while window >> (levels + 1):
            levels += 1
        if n < window or levels == 0:
            for i in range(n):
                step(buf, i, x, y, state, at, work, window, levels)
            return
        chunk = buf.shape[1]
        a, b = (first + 1) * chunk, (second + 1) * chunk
        for i in range(n):
            _store(work, a + i, 2 * chunk, single(buf, x, y, i))
        ring, size = at + levels, 1
        for level in range(levels):
            odd = (window >> (levels - 1 - level)) & 1
            last = level == levels - 1
            target, row = (0, chunk) if last and not odd else (b, 2 * chunk)
            position = int(state[at + level])
            state[at + level] = straight(work, n, chunk, state, ring, size, position, a, target, row)
            ring += channels * size
            size *= 2
            a, b = b, a
            if odd:
                target, row = (0, chunk) if last else (b, 2 * chunk)
                append(buf, x, y, work, n, chunk, state, ring, size, a, target, row)
                size += 1
                a, b = b, a
            ring += channels

    return fold

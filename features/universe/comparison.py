"""Comparing symbols on disk: values are laid out as a table of times x symbols, some times at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.batch import CHUNK
from features.universe.stages import Stage
from features.universe.store import Floats, Store, Times

# values of one kind in the table, and read ahead of it
TABLE, AHEAD = 2**20, 2**21


@dataclass(frozen=True)
class Span:
    """Times later than `after` up to `until`, nanoseconds since 1970 UTC."""

    after: int
    until: int

    def __str__(self) -> str:
        return f"comparison up to {pd.Timestamp(self.until, tz='UTC')}"


def spans(stores: Sequence[Store], count: int) -> list[Span]:
    """At most `count` spans that hold every time of `stores`, about equally many values in each."""
    sample = np.sort(np.concatenate([store.sample(4 * count) for store in stores]))
    ends = np.unique(sample[np.arange(1, count + 1) * len(sample) // count - 1])
    starts = [np.iinfo(np.int64).min, *ends[:-1]]
    return [Span(int(after), int(until)) for after, until in zip(starts, ends, strict=True)]


def compare(stores: Sequence[Store], stage: Stage, source: str, target: str, span: Span) -> None:
    """Run the comparison of `stage` over a span: from table `source` of each store to its `target`.

    A time belongs to those symbols that have a bar at it. The table has at most TABLE values of each kind,
    or the symbols of one time.
    """
    width = len(stores) + 1  # what ends a cross-section has a place too
    rows = max(1, TABLE // width)
    program = stage.comparison
    state = program.initial_state.copy()
    buffers = program.buffers(width * max(1, CHUNK // width))
    readers = [_Reader(store, source, len(stage.arguments.names), span) for store in stores]
    ahead = max(rows, AHEAD // len(stores))
    while True:
        for reader in readers:
            reader.fill(rows, ahead)
        times = _first_times([reader.times[:rows] for reader in readers], rows)
        if not len(times):
            return
        values = np.full((len(stage.arguments.names), len(times), width), np.nan)
        values[:, :, -1] = np.inf
        places = [np.searchsorted(times, reader.until(times[-1])) for reader in readers]
        for symbol, (reader, at) in enumerate(zip(readers, places, strict=True)):
            values[:, at, symbol] = reader.values[: len(at)].T
        compared = np.empty((len(program.names), len(times) * width))
        program.run(values.reshape(len(values), -1), state, buffers, compared)
        results = compared.reshape(len(compared), len(times), width)
        for symbol, (reader, at) in enumerate(zip(readers, places, strict=True)):
            if len(at):
                stores[symbol].put(target, reader.row, results[:, at, symbol].T)
                reader.drop(len(at))


def _first_times(heads: Sequence[Times], count: int) -> Times:
    """The first `count` distinct times of all; most symbols share theirs."""
    distinct = {head.tobytes(): head for head in heads}
    return np.unique(np.concatenate(list(distinct.values())))[:count]


class _Reader:
    """The rows of one symbol within a span, some of them in memory: from `row` on."""

    def __init__(self, store: Store, name: str, width: int, span: Span) -> None:
        self._store, self._name, self._width = store, name, width
        self.row, self._end = store.row_after(span.after), store.row_after(span.until)
        self.times: Times = np.empty(0, dtype=np.int64)
        self.values: Floats = np.empty((0, width))

    def fill(self, least: int, ahead: int) -> None:
        """Have `least` rows in memory, or all that are left; reads up to `ahead` at once."""
        start = self.row + len(self.times)
        count = min(ahead, self._end - start)
        if len(self.times) < least and count:
            self.times = np.concatenate([self.times, self._store.times(start, count)])
            read = self._store.table(self._name, self._width, start, count)
            self.values = np.concatenate([self.values, read])

    def until(self, time: np.int64) -> Times:
        """Times in memory up to `time`."""
        return self.times[: self.times.searchsorted(time, side="right")]

    def drop(self, count: int) -> None:
        """Forget the first `count` rows."""
        self.row += count
        self.times, self.values = self.times[count:], self.values[count:]

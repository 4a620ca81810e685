"""What the service remembers of each symbol: the feature stream, the last window, the last bars."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from core.errors import StreamError
from features.stream import Stream
from serving.bar import Bar, iso
from serving.errors import BarRefused, StaleBar, TooManySymbols

HISTORY = 2048


class SymbolState:
    """One symbol's stream and its window, float32 [T, F], newest row last; rows before the start are NaN."""

    def __init__(self, symbol: str, definitions: Mapping[str, str], window: int) -> None:
        self.symbol = symbol
        self.stream = Stream(definitions)
        self.window = np.full((window, len(definitions)), np.nan, dtype=np.float32)  # [T, F]
        self._history = np.zeros((HISTORY, 6))
        self._kept = 0

    def seed(self, checkpoint: bytes, window: NDArray[np.float32]) -> None:
        """Continue from a bundle's state; StreamError when other definitions made it."""
        self.stream.restore(checkpoint)
        self.fill(window)

    def fill(self, rows: NDArray[np.float32]) -> None:
        """Make `rows`, float32 [t, F], the newest of the window; older ones are NaN when t < T."""
        count = min(len(rows), len(self.window))
        self.window[: len(self.window) - count] = np.nan
        self.window[len(self.window) - count :] = rows[len(rows) - count :]

    @property
    def bars(self) -> int:
        """Bars seen, those before the bundle's as-of bar included."""
        return self.stream.bars

    @property
    def last(self) -> float | None:
        """Close of the last bar, epoch seconds UTC; None before the first."""
        return self.stream.last_timestamp

    def push(self, bar: Bar) -> NDArray[np.float64]:
        """Features [F] as of this bar's close, also appended to the window; refused bars change nothing."""
        try:
            vector = self.stream.push(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.timestamp)
        except StreamError as error:
            raise BarRefused(str(error)) from error
        self.window[:-1] = self.window[1:]
        self.window[-1] = vector
        self._history[self._kept % HISTORY] = bar[1:]
        self._kept += 1
        return vector

    def history(self) -> Iterator[Bar]:
        """The last bars pushed here, at most 2048, oldest first."""
        for i in range(max(0, self._kept - HISTORY), self._kept):
            yield Bar(self.symbol, *map(float, self._history[i % HISTORY]))


class States:
    """The state of every symbol of one model."""

    def __init__(self, definitions: Mapping[str, str], window: int, *, limit: int = 1024) -> None:
        self.definitions, self.window, self.limit = dict(definitions), window, limit
        self._symbols: dict[str, SymbolState] = {}

    def __iter__(self) -> Iterator[SymbolState]:
        return iter(self._symbols.values())

    def get(self, symbol: str) -> SymbolState | None:
        """The state of a symbol, or None when no bar and no bundle has brought it."""
        return self._symbols.get(symbol)

    def open(self, symbol: str) -> SymbolState:
        """The state of a symbol, empty when new; TooManySymbols beyond the limit."""
        state = self._symbols.get(symbol)
        if state is None:
            self._check_room({symbol})
            state = self._symbols[symbol] = SymbolState(symbol, self.definitions, self.window)
        return state

    def check(self, bars: list[Bar]) -> None:
        """Raise unless every bar is sound and newer than the one before it of its symbol; changes nothing."""
        last: dict[str, float] = {}
        for bar in bars:
            bar.check()
            known = self._symbols.get(bar.symbol)
            before = last.get(bar.symbol, known.last if known else None)
            if before is not None and bar.timestamp <= before:
                raise StaleBar(
                    f"{bar.symbol} {bar.time} is not newer than the last bar at {iso(before)}: send each bar "
                    "once, in order; no bar of this request was used"
                )
            last[bar.symbol] = bar.timestamp
        self._check_room(set(last) - set(self._symbols))

    def _check_room(self, new: set[str]) -> None:
        if len(self._symbols) + len(new) > self.limit:
            raise TooManySymbols(
                f"{', '.join(sorted(new)[:3])}: {len(self._symbols)} symbols are tracked, the limit is "
                f"{self.limit}: serve more from another process"
            )

    def succeed(self, old: "States") -> None:
        """Take over from the states of the model that served before.

        A symbol continues where it is live: with equal definitions its stream is moved here, unless this
        bundle's as-of bar is newer. With other definitions the live bars that are newer than the as-of bar
        (at most the last 2048) are pushed again, so the symbol does not jump back.
        """
        for live in old:
            seeded = self._symbols.get(live.symbol)
            if seeded is not None and (live.last is None or (seeded.last or 0.0) > live.last):
                continue
            self._symbols[live.symbol] = self._continued(live, seeded)

    def _continued(self, live: SymbolState, seeded: SymbolState | None) -> SymbolState:
        if list(live.stream.names) == list(self.definitions) and live.window.shape[0] >= self.window:
            same = Stream(self.definitions).definitions == live.stream.definitions
            if same:
                live.window = live.window[-self.window :].copy()
                return live
        fresh = seeded or SymbolState(live.symbol, self.definitions, self.window)
        for bar in live.history():
            if fresh.last is None or bar.timestamp > fresh.last:
                fresh.push(bar)
        return fresh

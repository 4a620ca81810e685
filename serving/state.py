"""What the service remembers of each symbol: the feature stream, the last window, the last bars."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import StreamError
from features.stream import Stream
from serving.bar import Bar, iso
from serving.errors import BarRefused, StaleBar, TooManySymbols
from serving.gaps import Gap, Gaps
from serving.window import Window

HISTORY = 2048


class Snapshot(msgspec.Struct, frozen=True):
    """A symbol's state as plain data: the stream's checkpoint, and the window's float32 [T, F] as bytes."""

    symbol: str
    bars: int
    last: float | None
    checkpoint: bytes
    rows: bytes
    shape: tuple[int, int]
    gap: Gap | None
    gaps: int
    missing: int


class SymbolState:
    """One symbol's stream and its window, float32 [T, F], newest row last; rows before the start are NaN.

    `rule` says how many bars are missing between two bar closes; None: gaps are not looked for. A thread
    may take a `snapshot` at any time.
    """

    def __init__(
        self,
        symbol: str,
        definitions: Mapping[str, str],
        window: int,
        rule: Callable[[float, float], int] | None = None,
    ) -> None:
        self.symbol = symbol
        self.gaps = Gaps(rule)
        self._guard = threading.Lock()
        self.stream = Stream(definitions)
        self._window = Window(np.full((window, len(definitions)), np.nan, dtype=np.float32))
        self._warm = False
        self._history = np.zeros((HISTORY, 6))
        self._kept = 0
        self._resumed = False

    def seed(self, checkpoint: bytes, window: NDArray[np.float32]) -> None:
        """Continue from a bundle's state; StreamError when other definitions made it."""
        self.stream.restore(checkpoint)
        self.fill(window)

    def fill(self, rows: NDArray[np.float32]) -> None:
        """Make `rows`, float32 [t, F], the newest of the window; older ones are NaN when t < T."""
        window = np.full(self.window.shape, np.nan, dtype=np.float32)
        count = min(len(rows), len(window))
        window[len(window) - count :] = rows[len(rows) - count :]
        self._window, self._warm = Window(window), False

    def keep(self, window: int, rule: Callable[[float, float], int] | None) -> None:
        """Go on with the newest `window` rows and another rule on gaps."""
        with self._guard:
            self._window = Window(self.window[-window:])
            self.gaps.rule = rule

    @property
    def window(self) -> NDArray[np.float32]:
        """The newest rows of features [T, F], newest last; a view, good until the next bar."""
        return self._window.rows

    @property
    def bars(self) -> int:
        """Bars seen, those before the bundle's as-of bar included."""
        return self.stream.bars

    @property
    def warm(self) -> bool:
        """True when every row of the window came after the warm-up of every feature."""
        # once it is, it stays
        self._warm = self._warm or self.stream.complete >= self._window.length
        return self._warm

    @property
    def last(self) -> float | None:
        """Close of the last bar, epoch seconds UTC; None before the first."""
        return self.stream.last_timestamp

    @property
    def live(self) -> bool:
        """True when bars were pushed here, now or before a restart: it holds more than a bundle's state."""
        return self._resumed or self._kept > 0

    def push(self, bar: Bar) -> NDArray[np.float64]:
        """Features [F] as of this bar's close, also appended to the window; refused bars change nothing."""
        stream = self.stream
        last = stream.last_timestamp
        _, closed, opened, high, low, close, volume = bar
        with self._guard:
            try:
                vector = stream.push(opened, high, low, close, volume, closed)
            except StreamError as error:
                raise BarRefused(str(error)) from error
            self._window.push(vector)
            self._history[self._kept % HISTORY] = bar[1:]
            self._kept += 1
            if last is not None:
                self.gaps.note(last, closed, stream.bars)
        return vector

    def gap_reason(self) -> str | None:
        """What is missing from the window as of the last bar, in words; None when nothing is."""
        return self.gaps.reason(self.bars, self._window.length)

    def snapshot(self) -> Snapshot:
        """The state between two bars."""
        with self._guard:
            gaps, window = self.gaps, self.window
            shape = (window.shape[0], window.shape[1])
            checkpoint, rows = self.stream.checkpoint(), window.astype("<f4").tobytes()
            return Snapshot(
                self.symbol,
                self.bars,
                self.last,
                checkpoint,
                rows,
                shape,
                gaps.last,
                gaps.count,
                gaps.missing,
            )

    def resume(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot; StreamError when other definitions or a shorter window made it."""
        (rows, width), (wanted, features) = snapshot.shape, self.window.shape
        if width != features or rows < wanted or len(snapshot.rows) != 4 * rows * width:
            raise StreamError(
                f"the saved window of {snapshot.symbol} is {snapshot.shape}, needed is {self.window.shape}"
            )
        self.stream.restore(snapshot.checkpoint)
        self.fill(np.frombuffer(snapshot.rows, dtype="<f4").reshape(rows, width))
        self.gaps.resume(snapshot.gap, snapshot.gaps, snapshot.missing)
        self._resumed = True

    def history(self) -> Iterator[Bar]:
        """The last bars pushed here, at most 2048, oldest first."""
        for i in range(max(0, self._kept - HISTORY), self._kept):
            yield Bar(self.symbol, *map(float, self._history[i % HISTORY]))


class States:
    """The state of every symbol of one model."""

    def __init__(
        self,
        definitions: Mapping[str, str],
        window: int,
        *,
        limit: int = 1024,
        rule: Callable[[float, float], int] | None = None,
    ) -> None:
        self.definitions, self.window, self.limit, self.rule = dict(definitions), window, limit, rule
        self._symbols: dict[str, SymbolState] = {}

    def __iter__(self) -> Iterator[SymbolState]:
        return iter(list(self._symbols.values()))

    def get(self, symbol: str) -> SymbolState | None:
        """The state of a symbol, or None when no bar and no bundle has brought it."""
        return self._symbols.get(symbol)

    def open(self, symbol: str) -> SymbolState:
        """The state of a symbol, empty when new; TooManySymbols beyond the limit."""
        state = self._symbols.get(symbol)
        if state is None:
            self._check_room({symbol})
            state = self._symbols[symbol] = self._new(symbol)
        return state

    def resume(self, snapshot: Snapshot) -> bool:
        """Continue a symbol from a snapshot unless its bundle is newer; False when it does not fit."""
        fresh = self._new(snapshot.symbol)
        try:
            fresh.resume(snapshot)
        except StreamError:
            return False
        seeded = self._symbols.get(snapshot.symbol)
        if seeded is None or (seeded.last or 0.0) <= (fresh.last or 0.0):
            self._check_room({snapshot.symbol} - set(self._symbols))
            self._symbols[snapshot.symbol] = fresh
        return True

    def replay(self, bars: Iterable[Bar]) -> int:
        """Push the bars that are newer than their symbol's last; how many there were."""
        count = 0
        for bar in bars:
            state = self.open(bar.symbol)
            if state.last is None or bar.timestamp > state.last:
                state.push(bar)
                count += 1
        return count

    def _new(self, symbol: str) -> SymbolState:
        return SymbolState(symbol, self.definitions, self.window, self.rule)

    def check(self, bars: Sequence[Bar], newest: Mapping[str, float]) -> dict[str, float]:
        """The last close of each symbol; raises unless every bar is sound and newer than its symbol's last.

        `newest` has the last close of each symbol whose bars are accepted but not pushed. Changes nothing.
        """
        last: dict[str, float] = {}
        unknown = False
        for bar in bars:
            bar.check()
            symbol = bar.symbol
            before = last.get(symbol, newest.get(symbol))
            if before is None:
                known = self._symbols.get(symbol)
                before, unknown = known.last if known else None, unknown or known is None
            if before is not None and bar.timestamp <= before:
                raise StaleBar(
                    f"{bar.symbol} {bar.time} is not newer than the last bar at {iso(before)}: send each bar "
                    "once, in order; no bar of this request was used"
                )
            last[symbol] = bar.timestamp
        if unknown:
            self._check_room((newest.keys() | last.keys()) - self._symbols.keys())
        return last

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
        same = old.continued_by(self)
        for live in old:
            seeded = self._symbols.get(live.symbol)
            if seeded is not None and (live.last is None or (seeded.last or 0.0) > live.last):
                continue
            self._symbols[live.symbol] = self._continued(live, seeded, same=same)

    def continued_by(self, new: "States") -> bool:
        """True when these streams can go on in `new`: equal features in order, no longer window."""
        if list(self.definitions) != list(new.definitions) or self.window < new.window:
            return False
        return (
            self.definitions == new.definitions
            or Stream(self.definitions).definitions == Stream(new.definitions).definitions
        )

    def _continued(self, live: SymbolState, seeded: SymbolState | None, *, same: bool) -> SymbolState:
        if same:
            live.keep(self.window, self.rule)
            return live
        fresh = seeded or self._new(live.symbol)
        for bar in live.history():
            if fresh.last is None or bar.timestamp > fresh.last:
                fresh.push(bar)
        return fresh

"""Signals on their way to one reader, bounded: a slow reader loses the oldest, and is told how many."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from core.signal import Signal

EVERYTHING = "*"


class Subscription:
    """The symbols a reader asked for and the signals it has not taken yet, at most `backlog`."""

    def __init__(self, backlog: int) -> None:
        self.symbols: set[str] = set()
        self._waiting: deque[Signal] = deque()
        self._backlog, self._dropped = backlog, 0
        self._wake = asyncio.Event()

    def add(self, symbols: Iterable[str]) -> None:
        """Ask for the signals of these symbols from now on; "*" is every symbol."""
        self.symbols.update(symbols)

    def remove(self, symbols: Iterable[str]) -> None:
        """Ask for these no more."""
        self.symbols.difference_update(symbols)

    def offer(self, signals: Sequence[Signal]) -> None:
        """Keep what was asked for; never waits."""
        if not self.symbols:
            return
        every = EVERYTHING in self.symbols
        self._waiting.extend(signal for signal in signals if every or signal.symbol in self.symbols)
        while len(self._waiting) > self._backlog:
            self._waiting.popleft()
            self._dropped += 1
        if self._waiting:
            self._wake.set()

    async def take(self) -> tuple[Signal, int]:
        """The oldest signal, once there is one, and how many before it were lost since the last call."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        dropped, self._dropped = self._dropped, 0
        return self._waiting.popleft(), dropped

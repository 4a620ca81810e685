"""Features of many symbols bar by bar, the same bits as `build_universe`."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError, StreamError
from features.layout import COLUMNS
from features.stream import pack, refusal, unpack
from features.universe.stages import cut

Floats = npt.NDArray[np.float64]
Bar = Sequence[float]


class UniverseStream:
    """Pushes the bars of all symbols at one time and returns a feature vector for each.

    `definitions` maps names to expression texts, `cs_rank(x)` and the like included; None is all of
    catalogue `full`. The order of `symbols` means nothing. Not safe to share between threads.
    """

    def __init__(self, symbols: Iterable[str], definitions: Mapping[str, str] | None = None) -> None:
        given = list(symbols)
        self._places = {symbol: place for place, symbol in enumerate(sorted(set(given)))}
        if not given or len(self._places) < len(given):
            raise ConfigurationError(f"symbols {given}: give at least one, and each once")
        self._plan = plan = cut(definitions)
        self._last = -math.inf
        self._state = np.tile(
            np.concatenate([program.initial_state for program in plan.programs]), (len(given), 1)
        )
        # a column per symbol, and one that marks the end of a cross-section
        width = len(given) + 1
        self._given = np.full((len(plan.columns), width), math.nan)
        self._made = [np.full((len(program.names), width), math.inf) for program in plan.programs]
        self._each = self._bind_each()
        self._compare = [
            stage.comparison.step(
                made,
                stage.comparison.initial_state.copy(),
                stage.comparison.buffers(width),
                self._given[stage.results],
            )
            for stage, made in zip(plan.stages, self._made, strict=False)
        ]

    def _bind_each(self) -> list[list[Callable[[], None]]]:
        """Per program, a call per symbol that advances it by one bar."""
        calls, end = [], 0
        for program, made in zip(self._plan.programs, self._made, strict=True):
            buffers = program.buffers(1)
            part = slice(end, end + len(program.initial_state))
            end = part.stop
            calls.append(
                [
                    program.step(
                        self._given[:, place : place + 1],
                        self._state[place, part],
                        buffers,
                        made[:, place : place + 1],
                    )
                    for place in self._places.values()
                ]
            )
        return calls

    @property
    def symbols(self) -> list[str]:
        """All symbols, sorted."""
        return list(self._places)

    @property
    def names(self) -> list[str]:
        """Feature names in the order of a vector."""
        return list(self._plan.features.names)

    @property
    def warmup(self) -> int:
        """Bars of a symbol before every feature of it is defined, if others are there to compare it with."""
        return self._plan.features.warmup

    @property
    def bars(self) -> dict[str, int]:
        """Bars accepted so far per symbol, those before a restored checkpoint included."""
        return {symbol: int(self._state[place, 0]) for symbol, place in self._places.items()}

    @property
    def last_timestamp(self) -> float | None:
        """The last accepted time in epoch seconds UTC; None before the first."""
        return self._last if self._last > -math.inf else None

    def push(self, timestamp: float, bars: Mapping[str, Bar]) -> dict[str, Floats]:
        """The features [F] of every symbol in `bars`, as of this close; NaN before warm-up.

        `bars` holds (open, high, low, close, volume) of each symbol that has a bar at `timestamp`, its close
        in epoch seconds UTC: all of them, for they are compared. StreamError refuses a symbol that is not of
        this universe, a time that is not newer than the last, and bars as `Stream.push` does; one refused
        bar refuses all, and every state is then as it was.
        """
        places = [self._accepted(timestamp, symbol, bar) for symbol, bar in bars.items()]
        if not places:
            raise StreamError(f"no bars at {timestamp}: push a time at which one symbol at least has a bar")
        for place, bar in zip(places, bars.values(), strict=True):
            self._given[:5, place] = bar
            self._given[5, place] = timestamp
        for made, each, compare in zip(self._made, self._each, self._compare, strict=False):
            made[:, :-1] = math.nan
            for place in places:
                each[place]()
            compare()
        for place in places:
            self._each[-1][place]()
        self._last = float(timestamp)
        return {symbol: self._made[-1][:, place].copy() for symbol, place in zip(bars, places, strict=True)}

    def _accepted(self, timestamp: float, symbol: str, bar: Bar) -> int:
        """The place of a symbol whose bar is sound."""
        if symbol not in self._places:
            raise StreamError(f"symbol {symbol!r} is not one of the {len(self._places)} here; bar refused")
        if len(bar) != len(COLUMNS) - 1:
            raise StreamError(
                f"symbol {symbol!r}: {len(bar)} values, not open, high, low, close, volume; bar refused"
            )
        reason = refusal(bar[0], bar[1], bar[2], bar[3], bar[4], timestamp, self._last)
        if reason is not None:
            raise StreamError(f"symbol {symbol!r}: {reason}")
        return self._places[symbol]

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(self._plan.digest + "\0".join(self._places).encode()).digest()

    def checkpoint(self) -> bytes:
        """The state of all symbols as bytes; `restore` continues from it bit for bit."""
        return pack(self._digest, self._last, self._state)

    def restore(self, checkpoint: bytes) -> None:
        """Continue from `checkpoint`; StreamError if it is damaged, or of other definitions or symbols."""
        self._last, state = unpack(checkpoint, self._digest, self._state.size)
        self._state[:] = state.reshape(self._state.shape)

"""Features of one bar after another, the same arithmetic as the batch; no numba where a cache has all."""

import hashlib
import math
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from core.errors import StreamError
from features.catalogue import compiled
from features.layout import COLUMNS

Floats = npt.NDArray[np.float64]
_MAGIC = b"BWFS\x01"
_HEADER = struct.Struct("<5s32sd")
_SEAL = 32


class Stream:
    """Pushes bars and returns feature vectors.

    `definitions` maps names to expression texts; None is the catalogue. One instance serves one symbol on
    one timeframe; it is not safe to share between threads.
    """

    def __init__(self, definitions: Mapping[str, str] | None = None) -> None:
        self._program = compiled(definitions)
        self._state = self._program.initial_state.copy()
        self._last = -math.inf
        self.bars = 0
        """Bars accepted so far, those before a restored checkpoint included."""
        self._buffers = self._program.buffers(1)
        self._bar, self._vector = np.zeros(len(COLUMNS)), np.empty(len(self._program.names))
        # finds or compiles the machine code now, not at the first bar
        columns, out = self._bar.reshape(-1, 1), self._vector.reshape(-1, 1)
        self._step = self._program.step(columns, self._state, self._buffers, out)

    @property
    def names(self) -> list[str]:
        """Feature names in the order of the vector."""
        return list(self._program.names)

    @property
    def definitions(self) -> dict[str, str]:
        """Canonical expression per name."""
        return dict(self._program.definitions)

    @property
    def warmup(self) -> int:
        """Bars before every feature is defined: vector number `warmup` (from 0) is the first complete one.

        The least possible when a feature uses a coarser timeframe: `complete` is what came of it.
        """
        return self._program.warmup

    @property
    def complete(self) -> int:
        """Vectors so far that came after the warm-up of every feature, the newest included."""
        return self._program.complete(self._state)

    @property
    def last_timestamp(self) -> float | None:
        """Close of the last accepted bar in epoch seconds UTC; None before the first."""
        return self._last if self._last > -math.inf else None

    def push(
        self, open: float, high: float, low: float, close: float, volume: float, timestamp: float
    ) -> Floats:
        """The features [F] as of this bar's close; NaN before warm-up.

        `timestamp` is the bar's close in epoch seconds UTC. StreamError refuses a bar that is not finite,
        not positive, not consistent or not newer than the last; the state is then as it was.
        """
        reason = refusal(open, high, low, close, volume, timestamp, self._last)
        if reason is not None:
            raise StreamError(reason)
        bar = self._bar
        bar[0], bar[1], bar[2] = open, high, low
        bar[3], bar[4], bar[5] = close, volume, timestamp
        self._step()
        self._last = float(timestamp)
        self.bars += 1
        return self._vector.copy()

    def checkpoint(self) -> bytes:
        """The state as bytes; `restore` continues from it bit for bit."""
        return pack(self._program.digest, self._last, self._state)

    def restore(self, checkpoint: bytes) -> None:
        """Continue from `checkpoint`; StreamError if it is damaged or made by other definitions."""
        self._last, self._state[:] = unpack(checkpoint, self._program.digest, self._state.size)
        self.bars = int(self._state[0])


def pack(digest: bytes, last: float, state: Floats) -> bytes:
    """A checkpoint: header with the definitions' digest [32] and the last time, state, SHA-256."""
    body = _HEADER.pack(_MAGIC, digest, last) + state.astype("<f8").tobytes()
    return body + hashlib.sha256(body).digest()


def unpack(checkpoint: bytes, digest: bytes, size: int) -> tuple[float, Floats]:
    """The last time and the state [size]; StreamError for damage, another digest or another size."""
    body, seal = checkpoint[:-_SEAL], checkpoint[-_SEAL:]
    if hashlib.sha256(body).digest() != seal or not body.startswith(_MAGIC):
        raise StreamError(
            f"checkpoint of {len(checkpoint)} bytes is damaged or not a feature checkpoint: "
            "rebuild it by streaming history"
        )
    _, made_by, last = _HEADER.unpack_from(body)
    state = np.frombuffer(body, dtype="<f8", offset=_HEADER.size).astype(np.float64)
    if made_by != digest or len(state) != size:
        raise StreamError(
            "checkpoint was made by other feature definitions, for other symbols or by another engine "
            f"(digest {made_by.hex()[:12]}, this stream has {digest.hex()[:12]}): stream history again"
        )
    return last, state


def refusal(
    open: float, high: float, low: float, close: float, volume: float, timestamp: float, last: float
) -> str | None:
    """Why a bar is refused, in words; None for a sound one that is newer than `last`."""
    try:
        sound = (
            0.0 < low <= open <= high < math.inf
            and low <= close <= high
            and 0.0 <= volume < math.inf
            and last < timestamp < math.inf
        )
    except (TypeError, ValueError):
        sound = False
    return None if sound else _reason(open, high, low, close, volume, timestamp, last)


def _reason(
    open: object, high: object, low: object, close: object, volume: object, timestamp: object, last: float
) -> str:
    """Which rule the bar breaks, in words."""
    values = {
        "open": open,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "timestamp": timestamp,
    }
    for name, value in values.items():
        if not isinstance(value, int | float | np.floating | np.integer):
            return f"{name} {value!r}: must be a number; bar refused"
        if not math.isfinite(value):
            return f"{name} {value}: must be finite; bar refused"
        if name in ("open", "high", "low", "close") and value <= 0:
            return f"{name} {value}: prices must be positive; bar refused"
    shown = f"open {open}, high {high}, low {low}, close {close}"
    if isinstance(volume, int | float) and volume < 0:
        return f"volume {volume}: must not be negative; bar refused"
    if isinstance(timestamp, int | float) and timestamp <= last:
        return f"timestamp {timestamp}: must be newer than the last bar's {last}; bar refused"
    return f"{shown}: low <= open, close <= high must hold; bar refused"

"""A bar on the wire and inside the service."""

import functools
import math
import re
from datetime import UTC, datetime
from typing import NamedTuple

from serving.errors import BarRefused

SYMBOL = r"[A-Za-z0-9][A-Za-z0-9._:/=^-]{0,31}"
_SYMBOL = re.compile(SYMBOL)
# 1900 and 2200: a time outside is milliseconds, or a mistake
EARLIEST, LATEST = -2_208_988_800.0, 7_258_118_400.0


class Bar(NamedTuple):
    """One closed bar; `timestamp` is its close in UTC epoch seconds."""

    symbol: str
    timestamp: float
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def time(self) -> str:
        """The close as ISO 8601, UTC."""
        return iso(self.timestamp)

    def check(self) -> None:
        """Raise BarRefused unless prices are finite, positive and consistent and volume is not negative."""
        _, _, opened, high, low, close, volume = self
        sound = 0 < low <= opened <= high < math.inf and low <= close <= high and 0 <= volume < math.inf
        if not (sound and _SYMBOL.fullmatch(self.symbol)):
            raise BarRefused(self._fault())

    def _fault(self) -> str:
        if not _SYMBOL.fullmatch(self.symbol):
            return f"symbol {self.symbol!r}: 1 to 32 letters, digits or . _ : / = ^ - are expected"
        prices = (self.open, self.high, self.low, self.close)
        if not all(math.isfinite(p) and p > 0 for p in prices):
            return f"{self._where} has prices {prices}: they must be finite and positive"
        if not (self.low <= self.open <= self.high and self.low <= self.close <= self.high):
            return f"{self._where} has open, high, low, close {prices}: low <= open, close <= high"
        return f"{self._where} has volume {self.volume}: it must be finite and not negative"

    @property
    def _where(self) -> str:
        return f"{self.symbol} {self.time}"


@functools.lru_cache(maxsize=512)  # symbols close together
def iso(seconds: float) -> str:
    """Epoch seconds as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def epoch(value: float | str) -> float:
    """Epoch seconds of a number of seconds or an ISO 8601 time with its zone; BarRefused otherwise."""
    seconds = value if isinstance(value, float | int) else _parse(value)
    if not EARLIEST <= seconds <= LATEST:
        raise BarRefused(f"timestamp {value}: seconds since 1970 between 1900 and 2200 are expected")
    return float(seconds)


def _parse(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BarRefused(
            f"timestamp {text[:40]!r}: ISO 8601 such as 2018-12-31T21:00:00Z is expected"
        ) from None
    if moment.tzinfo is None:
        raise BarRefused(f"timestamp {text!r} has no zone: add Z for UTC")
    return moment.timestamp()

"""Bar length as a value: "1m", "5m", "1h", "4h", "1d", "1w"."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigurationError, DataError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# 1970-01-01 was a Thursday: weeks end at Monday 00:00 UTC, four days after the epoch
_MONDAY = 4 * _UNITS["d"]


@dataclass(frozen=True, order=True)
class Timeframe:
    """Length of one bar in seconds; prints in its largest whole unit."""

    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """Read "15m" and the like; ConfigurationError when the text is not a positive count and a unit."""
        match = re.fullmatch(r"([1-9]\d*)([smhdw])", text)
        if match is None:
            raise ConfigurationError(
                f"timeframe {text!r}: expected a count and a unit of s m h d w, such as 1d or 5m"
            )
        return cls(int(match[1]) * _UNITS[match[2]])

    def __str__(self) -> str:
        unit = max((u for u in _UNITS if self.seconds % _UNITS[u] == 0), key=lambda u: _UNITS[u])
        return f"{self.seconds // _UNITS[unit]}{unit}"

    @property
    def intraday(self) -> bool:
        """True when a bar is shorter than a day."""
        return self.seconds < _UNITS["d"]

    @property
    def anchor(self) -> int:
        """An end of a bar of this length, epoch seconds UTC: the epoch, for whole weeks a Monday 00:00."""
        return _MONDAY if self.seconds % _UNITS["w"] == 0 else 0

    def ends(self, times: NDArray[Any], per_second: int = 1) -> NDArray[Any]:
        """End of the bar of this length, (end - length, end], that holds each time since the epoch."""
        step, anchor = self.seconds * per_second, self.anchor * per_second
        return -((anchor - times) // step) * step + anchor


def infer(epoch_seconds: NDArray[Any]) -> Timeframe:
    """The commonest positive spacing of bar times, shape [n], in any order; DataError below two times."""
    times: NDArray[np.int64] = np.unique(np.asarray(epoch_seconds, dtype=np.int64))
    steps: NDArray[np.int64] = times[1:] - times[:-1]
    if steps.size == 0:
        raise DataError(
            f"{len(epoch_seconds)} bar(s): a timeframe needs two different times; "
            "give more bars, or set data.timeframe"
        )
    # Daily closes move by an hour with daylight saving: look at whole days first.
    days = np.round(steps / _UNITS["d"]).astype(np.int64)
    if np.median(steps) >= 0.9 * _UNITS["d"]:
        values, counts = np.unique(days, return_counts=True)
        common = int(values[counts.argmax()])
        return Timeframe(_UNITS["w"] if common == 7 else max(common, 1) * _UNITS["d"])
    values, counts = np.unique(steps, return_counts=True)
    return Timeframe(int(values[counts.argmax()]))

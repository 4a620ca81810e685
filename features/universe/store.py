"""Rows of float64 and their times on disk while a universe is built: plain bytes in place."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
_SIZE = 8


@dataclass(frozen=True)
class Store:
    """The folder of one symbol: times in nanoseconds since 1970 UTC, and tables [rows, width] by name."""

    folder: Path

    @property
    def rows(self) -> int:
        """How many bars there are."""
        return (self.folder / "times").stat().st_size // _SIZE

    def append(self, name: str, values: npt.NDArray[np.generic]) -> None:
        """Add `values` at the end of `name`, which need not exist."""
        with (self.folder / name).open("ab") as file:
            file.write(np.ascontiguousarray(values).tobytes())

    def reserve(self, name: str, width: int) -> None:
        """A table of zeros with a row per bar, for `put`."""
        with (self.folder / name).open("wb") as file:
            file.truncate(self.rows * width * _SIZE)

    def put(self, name: str, start: int, values: Floats) -> None:
        """Write rows over those from `start` on; disjoint rows may be written by several processes."""
        with (self.folder / name).open("r+b") as file:
            file.seek(start * values.shape[1] * _SIZE)
            file.write(np.ascontiguousarray(values).tobytes())

    def table(self, name: str, width: int, start: int, count: int) -> Floats:
        """`count` rows from `start` on, [count, width]."""
        place = start * width * _SIZE
        flat = np.fromfile(self.folder / name, dtype=np.float64, count=count * width, offset=place)
        return flat.reshape(count, width)

    def times(self, start: int, count: int) -> Times:
        """`count` times from `start` on."""
        return np.fromfile(self.folder / "times", dtype=np.int64, count=count, offset=start * _SIZE)

    def row_after(self, time: int) -> int:
        """The first row later than `time`."""
        mapped = np.memmap(self.folder / "times", dtype=np.int64, mode="r")
        return int(mapped.searchsorted(time, side="right"))

    def sample(self, count: int) -> Times:
        """About `count` times in even steps, the last one among them."""
        mapped = np.memmap(self.folder / "times", dtype=np.int64, mode="r")
        return np.array(mapped[:: -max(1, len(mapped) // count)])

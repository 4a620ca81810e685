"""The newest rows of one symbol, as the model wants them: side by side, oldest first."""

import numpy as np
from numpy.typing import NDArray


class Window:
    """Rows [T, F] of a ring that stands twice, so that those in order are one piece wherever it begins.

    A new row is written twice; the others stay where they are.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        """Begin with copies of `rows`, newest last."""
        self.length = len(rows)
        self._ring = np.concatenate([rows, rows])
        self._oldest = 0

    @property
    def rows(self) -> NDArray[np.float32]:
        """A view, good until the next `push`."""
        return self._ring[self._oldest : self._oldest + self.length]

    def push(self, row: NDArray[np.float64]) -> None:
        """The newest row takes the place of the oldest."""
        place = self._oldest
        self._ring[place] = row
        self._ring[place + self.length] = self._ring[place]
        self._oldest = (place + 1) % self.length

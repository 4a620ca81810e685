"""The training matrix, and sequence windows over it without copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from models.targets import DIRECTION, Kind, Target

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_ARRAYS = ("times", "x", "y", "w", "t1")


@dataclass(frozen=True)
class Dataset:
    """Consecutive bars with features, labels and weights.

    times: bar close, UTC nanoseconds [n], strictly increasing. x: float32 [n, F]; NaN is missing,
    infinity is refused. y: number of the class in `classes` [n]. w: weight >= 0 [n]; it counts as so many
    independent rows, so regularisation is relative to its sum. t1: end of the label's span, UTC ns [n].
    """

    times: Rows
    x: Features
    y: Floats
    w: Floats
    t1: Rows
    names: tuple[str, ...]
    target: Target = DIRECTION

    def __post_init__(self) -> None:
        n = len(self.times)
        lengths = {name: len(getattr(self, name)) for name in _ARRAYS}
        if set(lengths.values()) != {n} or self.x.shape != (n, len(self.names)):
            raise DataError(
                f"dataset: {lengths} and {len(self.names)} names for x {self.x.shape}: must agree"
            )
        if self.x.dtype != np.float32:
            raise DataError(f"dataset: x is {self.x.dtype}, must be float32 before anything is fitted")
        self._check_values()

    def _check_values(self) -> None:
        _refuse(
            np.asarray(np.isinf(self.x).any(axis=1)), "an infinite feature", "mend the feature's definition"
        )
        known = np.arange(len(self.classes))
        _refuse(
            ~np.isin(self.y, known), f"a label that is not one of {known.tolist()}", "drop unlabelled rows"
        )
        _refuse(
            ~((self.w >= 0.0) & (self.w < np.inf)),
            "a weight that is not >= 0",
            "mend the weights",
        )
        _refuse(self.t1 <= self.times, "a label that ends at or before its bar", "mend t1")
        _refuse(np.diff(self.times, prepend=self.times[:1] - 1) <= 0, "time going back", "sort the bars")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that `y` counts."""
        return self.target.classes

    def side(self, rows: Rows) -> Floats | None:
        """Side of the primary signal at `rows` [k], for `Target.signal`; None when there is no primary."""
        return self.target.side(self.x[rows])

    @classmethod
    def from_frames(
        cls,
        features: pd.DataFrame,
        labels: pd.DataFrame,
        weights: Floats | None = None,
        kind: Kind = "direction",
    ) -> Self:
        """Join features (any rows) with labels (columns label, t1) on bar time, cast to float32.

        The result is every feature row from the first label to the last: a gap between them would put
        rows into a window that are not neighbours, and is a DataError. `weights` [len(labels)], default 1.
        `kind` of target: a meta target needs the feature PRIMARY_SIDE.
        """
        positions = features.index.get_indexer(labels.index)
        if len(positions) == 0 or (positions < 0).any() or (np.diff(positions) != 1).any():
            raise DataError(_describe_gap(labels, positions))
        block = features.iloc[positions[0] : positions[-1] + 1]
        with np.errstate(over="ignore"):  # an overflow becomes inf, which is refused by name
            x = block.to_numpy(dtype=np.float64).astype(np.float32)
        return cls(
            times=np.asarray(block.index.as_unit("ns").asi8, dtype=np.int64),
            x=np.ascontiguousarray(x),
            y=labels["label"].to_numpy(dtype=np.float64),
            w=np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64),
            t1=labels["t1"].astype("datetime64[ns, UTC]").to_numpy(dtype="datetime64[ns]").astype(np.int64),
            names=tuple(str(name) for name in features.columns),
            target=Target.of(kind, [str(name) for name in features.columns]),
        )

    def save(self, directory: Path) -> None:
        """Write one .npy per array, the names and the kind of target, for `open_shared`."""
        for name in _ARRAYS:
            np.save(directory / f"{name}.npy", getattr(self, name), allow_pickle=False)
        words = np.array([self.target.kind, *self.names], dtype=np.str_)
        np.save(directory / "names.npy", words, allow_pickle=False)

    @classmethod
    def open_shared(cls, directory: Path) -> Self:
        """Map what `save` wrote read-only: processes share the pages, nothing is copied per task."""
        arrays = {
            name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        }
        kind, *names = (str(word) for word in np.load(directory / "names.npy", allow_pickle=False))
        return cls(**arrays, names=tuple(names), target=Target.of(cast("Kind", kind), names))


def windows(x: Features, rows: Rows, length: int) -> Features:
    """The `length` rows of `x` [n, F] that end at each of `rows` [k]: float32 [k, length, F].

    Rows before the first are NaN. A read-only view over one padded copy of the rows touched when `rows`
    are consecutive; otherwise the asked-for windows are gathered from that view.
    """
    if len(rows) == 0:
        return np.empty((0, length, x.shape[1]), dtype=np.float32)
    first, last = int(rows.min()), int(rows.max())
    views = sliding(padded(x[max(0, first - length + 1) : last + 1], length, first), length)
    return views if len(rows) == last - first + 1 and (np.diff(rows) == 1).all() else views[rows - first]


def padded(x: Features, length: int, first: int = 0) -> Features:
    """`x` under as many NaN rows as the window of row `first` lacks; `x` itself when it lacks none."""
    missing = length - 1 - first
    if missing <= 0:
        return x
    return np.concatenate([np.full((missing, x.shape[1]), np.nan, dtype=np.float32), x])


def sliding(x: Features, length: int) -> Features:
    """All windows of `x` [m, F] as a view: [m - length + 1, length, F]; it costs no memory."""
    views = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)
    return views.transpose(0, 2, 1)


def _refuse(bad: NDArray[np.bool_], what: str, remedy: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"dataset: row {row} has {what} ({int(bad.sum())} such rows): {remedy}")


def _describe_gap(labels: pd.DataFrame, positions: NDArray[np.intp]) -> str:
    if len(positions) == 0:
        return "dataset: 0 labelled rows: the bars are fewer than the label's horizon and warm-up"
    if (positions < 0).any():
        absent = labels.index[int(np.argmax(positions < 0))]
        return f"dataset: the label at {absent} has no feature row: build both from the same bars"
    after = labels.index[int(np.argmax(np.diff(positions) != 1))]
    return f"dataset: labels are not consecutive after {after}: windows need neighbouring bars; label all"

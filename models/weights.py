"""Sample weights: how much of a label no other label shares."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError

Times = NDArray[np.int64]
Floats = NDArray[np.float64]
Mode = Literal["uniqueness", "equal"]


def label_weights(labels: pd.DataFrame, times: pd.DatetimeIndex, mode: Mode) -> Floats:
    """Weight of each of `labels` (of `models.labels`, on bars that close at `times`) [n].

    equal: 1. uniqueness: see there. A meta-label without a side weighs 0 and shares nobody's bars: there is
    no bet to learn from.
    """
    bets = labels["side"].to_numpy() != 0.0 if "side" in labels else np.ones(len(labels), dtype=bool)
    if mode == "equal":
        return bets.astype(np.float64)
    weights = np.zeros(len(labels))
    weighed = labels[bets]
    ends = pd.DatetimeIndex(weighed["t1"])
    weights[bets] = uniqueness(_ns(weighed.index), _ns(ends), _ns(times))
    return weights


def uniqueness(starts: Times, ends: Times, bars: Times) -> Floats:
    """Mean over each label's bars, first and last included, of 1 / labels alive at that bar; [n], (0, 1].

    starts, ends: first and last bar of each label [n], `bars`: every bar [m], increasing; one unit, such
    as UTC ns. The sum is about the number of independent labels. A label's weight is known when it ends:
    whoever is alive at its last bar has begun by then. López de Prado 2018, ch. 4.

    >>> uniqueness(np.array([0, 2, 4]), np.array([2, 3, 5]), np.arange(6))
    array([0.83333333, 0.75      , 1.        ])
    """
    first, last = np.searchsorted(bars, starts), np.searchsorted(bars, ends)
    _check(starts, ends, bars, first, last)
    changes = np.zeros(len(bars) + 1)
    np.add.at(changes, first, 1.0)
    np.add.at(changes, last + 1, -1.0)
    alive = np.cumsum(changes)[:-1]
    share = np.divide(1.0, alive, out=np.zeros(len(bars)), where=alive > 0)
    total = np.concatenate([[0.0], np.cumsum(share)])
    return np.asarray((total[last + 1] - total[first]) / (last - first + 1), dtype=np.float64)


def _ns(times: pd.DatetimeIndex) -> Times:
    return np.asarray(times.as_unit("ns").asi8, dtype=np.int64)


def _check(starts: Times, ends: Times, bars: Times, first: NDArray[np.intp], last: NDArray[np.intp]) -> None:
    inside = (last < len(bars)) & (first <= last)
    known = inside.copy()
    known[inside] = (bars[first[inside]] == starts[inside]) & (bars[last[inside]] == ends[inside])
    if not known.all():
        row = int(np.argmin(known))
        raise DataError(f"weights: label {row} spans {starts[row]} to {ends[row]}, which are not both bars")

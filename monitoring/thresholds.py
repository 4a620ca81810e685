"""How far apart two samples are, and how far apart blocks of one history lie from each other.

Features over rolling windows overlap, so their rows are far from independent and a two-sample p-value
calls every window drifted. The threshold of a column is therefore taken from the reference itself: the
distances between its contiguous blocks, each as long as the current window, and the rest of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError

Array = NDArray[np.float64]
METHOD = "wasserstein"
SMALLEST_SCALE = 0.001  # Evidently's floor under the reference's standard deviation


def psi(reference: Array, current: Array) -> float:
    """Population stability index of two frequency vectors over the same bins; every bin must be positive."""
    p, q = _shares(reference), _shares(current)
    if not (p > 0).all() or not (q > 0).all():
        raise DataError("PSI needs every bin above zero: use fewer bins, cut at the reference's quantiles")
    return float(np.sum((q - p) * np.log(q / p)))


def psi_bound(reference_rows: int, current_rows: int, bins: int, level: float = 0.95) -> float:
    """PSI that `level` of INDEPENDENT samples without drift stay under: χ²(bins − 1)·(1/n + 1/m).

    Sample sizes 100 against a very large reference and 10 bins give .169, and .338 against another 100:
    the folk limits .1 and .25 mean nothing without n. Yurdakul & Naranjo 2020.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(level, bins - 1) * (1.0 / reference_rows + 1.0 / current_rows))


def jensen_shannon(reference: Array, current: Array) -> float:
    """Jensen-Shannon distance, base 2, in [0, 1], of two frequency vectors over the same bins."""
    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    return float(np.sqrt(max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)))


def _relative_entropy(p: Array, q: Array) -> float:
    used = p > 0
    return float(np.sum(p[used] * np.log2(p[used] / q[used])))


def _shares(counts: Array) -> Array:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or not (values >= 0).all() or values.sum() <= 0:
        raise DataError(f"bin frequencies must be one row of non-negative numbers, not {counts!r}")
    return np.asarray(values / values.sum(), dtype=np.float64)


def benjamini_hochberg(p_values: Sequence[float], level: float = 0.05) -> NDArray[np.bool_]:
    """Which hypotheses are rejected at false discovery rate `level`. Benjamini & Hochberg 1995."""
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p-values lie in [0, 1], not {p.tolist()}")
    order = np.argsort(p, kind="stable")
    passed = p[order] <= level * np.arange(1, p.size + 1) / max(p.size, 1)
    rejected = np.zeros(p.size, dtype=np.bool_)
    if passed.any():
        rejected[order[: int(np.flatnonzero(passed)[-1]) + 1]] = True
    return rejected


class _Ranked:
    """Values [n, F] sorted once per column, so that each split of the rows costs one cumulative sum."""

    def __init__(self, values: Array) -> None:
        self.values = np.where(np.isfinite(values), values, np.nan)
        self.order = np.argsort(self.values, axis=0, kind="stable")  # [n, F], NaN last
        ranked = np.take_along_axis(self.values, self.order, axis=0)
        self.finite = np.isfinite(ranked)
        self.gaps = np.nan_to_num(np.diff(ranked, axis=0))  # [n-1, F]

    def distance(self, inside: NDArray[np.bool_]) -> Array:
        """Distance [F] of the rows marked `inside` [n] from the others, in the others' deviations."""
        chosen = inside[self.order]
        weight = self._share(chosen & self.finite) - self._share(~chosen & self.finite)
        moved = (np.abs(np.cumsum(weight, axis=0))[:-1] * self.gaps).sum(axis=0)
        scale = np.maximum(np.nanstd(self.values[~inside], axis=0), SMALLEST_SCALE)
        return np.asarray(moved / scale, dtype=np.float64)

    @staticmethod
    def _share(mask: NDArray[np.bool_]) -> Array:
        return np.asarray(mask / np.maximum(mask.sum(axis=0), 1), dtype=np.float64)


def wasserstein(current: Array, reference: Array) -> Array:
    """First Wasserstein distance per column over the reference's standard deviation (ddof 0).

    current [n, F], reference [m, F] → [F]; not finite values are left out, column by column. The same
    number as Evidently's method "wasserstein", floor under the deviation included.
    """
    inside = np.zeros(len(reference) + len(current), dtype=np.bool_)
    inside[len(reference) :] = True
    return _Ranked(np.concatenate([reference, current])).distance(inside)


@dataclass(frozen=True)
class BlockNull:
    """Distances [K, F] of a history's blocks from the rest of it: what "no drift" looks like."""

    length: int
    distances: Array

    def thresholds(self, quantile: float) -> Array:
        """Per column [F], the `quantile` of the block distances."""
        return np.asarray(np.quantile(self.distances, quantile, axis=0), dtype=np.float64)

    def usual_share(self, quantile: float) -> float:
        """The `quantile` over the blocks of a block's share of columns at or over their thresholds."""
        shares = (self.distances >= self.thresholds(quantile)).mean(axis=1)  # [K]
        return float(np.quantile(shares, quantile))


def block_null(reference: Array, length: int, blocks_per_window: int = 12) -> BlockNull:
    """Distances of every block of `length` rows, `length / blocks_per_window` apart, from the other rows.

    reference [n, F] in time order. DataError when n < 2·length: no block would have a longer rest.
    """
    rows = len(reference)
    if rows < 2 * length:
        raise DataError(
            f"a window of {length} bars needs at least {2 * length} reference rows to learn what is normal; "
            f"{rows} found: compare a shorter window (drift.window_rows) or keep a longer reference"
        )
    ranked, distances = _Ranked(reference), []
    for start in range(0, rows - length + 1, max(1, length // blocks_per_window)):
        inside = np.zeros(rows, dtype=np.bool_)
        inside[start : start + length] = True
        distances.append(ranked.distance(inside))
    return BlockNull(length, np.stack(distances))

"""How good probabilities of "up" are, all functions of y [n] in {0, 1}, p [n] and weights w [n]."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import DataError

Vector = npt.NDArray[np.float64]
# log-loss of a certain miss would be infinite; scikit-learn clips at the same order
_CLIP = 1e-15


@dataclass(frozen=True, eq=False)
class Reliability:
    """One row per bin that holds data: mean predicted, observed share of "up", rows, weight."""

    predicted: Vector
    observed: Vector
    rows: npt.NDArray[np.int64]
    weight: Vector


def losses(y: npt.ArrayLike, p: npt.ArrayLike) -> Vector:
    """Log-loss of every row, natural logarithm, float64 [n]; p is clipped to [1e-15, 1 − 1e-15]."""
    y, p, _ = _checked(y, p, None)
    p = np.clip(p, _CLIP, 1 - _CLIP)
    loss: Vector = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return loss


def log_loss(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Mean negative log-likelihood in nats; ln 2 = .6931 is a coin."""
    _, _, weight = _checked(y, p, w)
    return float(np.average(losses(y, p), weights=weight))


def brier(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Mean squared error of the probability; .25 is a coin."""
    y, p, weight = _checked(y, p, w)
    return float(np.average((p - y) ** 2, weights=weight))


def hit_rate(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Share of rows on the right side of one half; p = .5 counts as "up"."""
    y, p, weight = _checked(y, p, w)
    return float(np.average((p >= 0.5) == (y == 1), weights=weight))


def auc(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve; ties count half. NaN when only one class is present."""
    y, p, weight = _checked(y, p, w)
    order = np.argsort(p, kind="stable")
    y, p, weight = y[order], p[order], weight[order]
    starts = np.flatnonzero(np.r_[True, np.diff(p) > 0])
    up = np.add.reduceat(weight * y, starts)
    down = np.add.reduceat(weight * (1 - y), starts)
    if up.sum() == 0 or down.sum() == 0:
        return float("nan")
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def reliability(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    w: npt.ArrayLike | None = None,
    *,
    bins: int = 10,
    equal_mass: bool = True,
) -> Reliability:
    """Observed against predicted share of "up" in bins of p.

    equal_mass: bins of equal row count, equal predictions never split between bins (a constant
    prediction is one bin); else bins of equal width over [0, 1], the upper bound belonging to the bin.
    """
    y, p, weight = _checked(y, p, w)
    order = np.argsort(p, kind="stable")
    y, p, weight = y[order], p[order], weight[order]
    member = _mass_bins(p, bins) if equal_mass else np.clip(np.ceil(p * bins) - 1, 0, bins - 1)
    starts = np.flatnonzero(np.r_[True, np.diff(member) != 0])
    mass = np.add.reduceat(weight, starts)
    rows = np.diff(np.r_[starts, len(p)])
    filled = mass > 0
    safe = np.where(filled, mass, 1.0)
    predicted = np.add.reduceat(weight * p, starts) / safe
    observed = np.add.reduceat(weight * y, starts) / safe
    return Reliability(predicted[filled], observed[filled], rows[filled], mass[filled])


def ece(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    w: npt.ArrayLike | None = None,
    *,
    bins: int = 10,
    equal_mass: bool = True,
) -> float:
    """Expected calibration error: weighted mean of |observed − predicted| over the bins.

    It grows with noise: a perfect model scores about .8·√(bins·p(1−p)/n). Compare with `ece_noise`.
    """
    table = reliability(y, p, w, bins=bins, equal_mass=equal_mass)
    return float(np.average(np.abs(table.observed - table.predicted), weights=table.weight))


def ece_noise(p: npt.ArrayLike, *, bins: int = 10, overlap: int = 1, z: float = 1.645) -> float:
    """The calibration error that chance alone stays below, 19 times in 20, if p were exactly right.

    The gap of a bin of m rows is normal with variance v = p(1−p)/m; its absolute value has mean √(2v/π)
    and variance v(1 − 2/π); the bins are summed and `z` standard deviations added.

    overlap: bars that one label spans. Labels that overlap repeat each other, so m rows tell about as
    much as m/overlap.
    """
    p = np.asarray(p, dtype=np.float64)
    table = reliability(np.zeros(len(p)), p, bins=bins)
    share = table.rows / len(p)
    variance = table.predicted * (1 - table.predicted) * overlap / table.rows
    mean = (share * np.sqrt(2 * variance / np.pi)).sum()
    spread = np.sqrt((share**2 * variance * (1 - 2 / np.pi)).sum())
    return float(mean + z * spread)


def _mass_bins(p: Vector, bins: int) -> Vector:
    """Bin of each sorted prediction; rows of equal p join the bin of the first of them."""
    ideal = np.arange(len(p)) * bins // len(p)
    first = np.r_[0, np.flatnonzero(np.diff(p) > 0) + 1]
    sizes = np.diff(np.r_[first, len(p)])
    return np.repeat(ideal[first], sizes).astype(np.float64)


def _checked(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None) -> tuple[Vector, Vector, Vector]:
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)
    if not len(y) == len(p) == len(w) or not len(y):
        raise DataError(f"{len(y)} outcomes, {len(p)} probabilities, {len(w)} weights: need equal, non-zero")
    if not ((y == 0) | (y == 1)).all():
        raise DataError("outcomes must be 0 or 1: drop rows without a label first")
    if not ((p >= 0) & (p <= 1)).all():
        bad = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise DataError(f"probability {p[bad]} at row {bad}: must be a number in [0, 1]")
    if not (np.isfinite(w) & (w >= 0)).all() or w.sum() == 0:
        raise DataError("weights must be finite, not negative, and not all zero")
    return y, p, w

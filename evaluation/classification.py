"""How good class probabilities are: functions of class numbers y [n], probabilities p and weights w [n].

p is [n], the probability of class 1 of two, or [n, K], one column per class, rows summing to 1. Two columns
are exactly the same as the second alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import DataError

Vector = npt.NDArray[np.float64]
# log-loss of a certain miss would be infinite; scikit-learn clips at the same order
_CLIP = 1e-15
# how far from 1 a row of class probabilities may add up to: float32 models are within a millionth
_SUM = 1e-5


@dataclass(frozen=True, eq=False)
class Reliability:
    """One row per bin that holds data: mean predicted, observed share of the last class, rows, weight."""

    predicted: Vector
    observed: Vector
    rows: npt.NDArray[np.int64]
    weight: Vector


def losses(y: npt.ArrayLike, p: npt.ArrayLike) -> Vector:
    """Log-loss of every row, natural logarithm, float64 [n]; p is clipped to [1e-15, 1 − 1e-15]."""
    y, p, _ = _checked(y, p, None)
    p = np.clip(p, _CLIP, 1 - _CLIP)
    loss: Vector
    loss = -(y * np.log(p) + (1 - y) * np.log1p(-p)) if p.ndim == 1 else -np.log(_of_outcome(y, p))
    return loss


def log_loss(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Mean negative log-likelihood in nats; ln K, .6931 of two classes, is an even guess."""
    _, _, weight = _checked(y, p, w)
    return float(np.average(losses(y, p), weights=weight))


def brier(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Mean over rows of ½ Σ (p of a class − 1 if it came, else 0)², in [0, 1]: of two classes (p − y)².

    (1 − 1/K)/2, .25 of two classes, is an even guess. scikit-learn doubles it beyond two classes.
    """
    y, p, weight = _checked(y, p, w)
    error = (p - y) ** 2 if p.ndim == 1 else ((p - _one_hot(y, p)) ** 2).sum(axis=1) / 2
    return float(np.average(error, weights=weight))


def hit_rate(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Share of rows whose likeliest class came; of equally likely ones the last counts (p = .5 is "up")."""
    y, p, weight = _checked(y, p, w)
    return float(np.average(_hits(y, p), weights=weight))


def hits(y: npt.ArrayLike, p: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether the likeliest class came, row by row, bool [n]: `hit_rate` is their mean."""
    y, p, _ = _checked(y, p, None)
    return _hits(y, p)


def valid(p: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows of p [n] or [n, K] are probabilities: finite, in [0, 1], classes adding to 1. bool [n]."""
    p = np.asarray(p, dtype=np.float64)
    inside = (p >= 0) & (p <= 1)
    if p.ndim == 1:
        return np.asarray(inside)
    return np.asarray(inside.all(axis=1) & (np.abs(np.where(inside, p, 0).sum(axis=1) - 1) <= _SUM))


def last_against_rest(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Vector, Vector]:
    """Outcomes 0 or 1 and probabilities [n] of the last class; two classes are returned as they are."""
    y, p, _ = _checked(y, p, None)
    return (y, p) if p.ndim == 1 else ((y == p.shape[1] - 1).astype(np.float64), p[:, -1])


def auc(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve of the last class against the rest; ties count half. NaN without both."""
    y, p, weight = _last_checked(y, p, w)
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
    """Observed against predicted share of the last class in bins of its probability.

    equal_mass: bins of equal row count, equal predictions never split between bins (a constant
    prediction is one bin); else bins of equal width over [0, 1], the upper bound belonging to the bin.
    """
    y, p, weight = _last_checked(y, p, w)
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
    table = reliability(np.zeros(len(np.asarray(p))), p, bins=bins)
    share = table.rows / table.rows.sum()
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


def _hits(y: Vector, p: Vector) -> npt.NDArray[np.bool_]:
    if p.ndim == 1:
        return np.asarray((p >= 0.5) == (y == 1))
    return np.asarray(p.shape[1] - 1 - p[:, ::-1].argmax(axis=1) == y)


def _of_outcome(y: Vector, p: Vector) -> Vector:
    """The probability that each row gave to the class that came, [n]."""
    return np.take_along_axis(p, y.astype(np.int64)[:, None], axis=1)[:, 0]


def _one_hot(y: Vector, p: Vector) -> npt.NDArray[np.bool_]:
    return np.asarray(y[:, None] == np.arange(p.shape[1]))


def _last_checked(
    y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None
) -> tuple[Vector, Vector, Vector]:
    _, _, weight = _checked(y, p, w)
    return *last_against_rest(y, p), weight


def _checked(y: npt.ArrayLike, p: npt.ArrayLike, w: npt.ArrayLike | None) -> tuple[Vector, Vector, Vector]:
    """The three as float64, p [n] for two classes however it was given; DataError naming what is wrong."""
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)
    if not len(y) == len(p) == len(w) or not len(y):
        raise DataError(f"{len(y)} outcomes, {len(p)} probabilities, {len(w)} weights: need equal, non-zero")
    if p.ndim > 2 or (p.ndim == 2 and p.shape[1] < 2):
        raise DataError(f"probabilities of shape {p.shape}: must be [rows], or [rows, classes] of 2 or more")
    if not valid(p).all():
        row = int(np.flatnonzero(~valid(p))[0])
        raise DataError(f"probability {p[row]} at row {row}: must be a number in [0, 1], classes adding to 1")
    classes = 2 if p.ndim == 1 else p.shape[1]
    if not np.isin(y, np.arange(classes)).all():
        wanted = "0 or 1" if classes == 2 else f"class numbers 0 to {classes - 1}"
        raise DataError(f"outcomes must be {wanted}: drop rows without a label first")
    if not (np.isfinite(w) & (w >= 0)).all() or w.sum() == 0:
        raise DataError("weights must be finite, not negative, and not all zero")
    return y, p[:, 1] if p.ndim == 2 and classes == 2 else p, w

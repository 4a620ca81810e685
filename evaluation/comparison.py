"""Is one forecast better than another on the same rows? Diebold & Mariano 1995 with the small-sample
correction of Harvey, Leybourne & Newbold 1997."""

from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.errors import DataError

Vector = npt.NDArray[np.float64]
Kernel = Literal["uniform", "bartlett"]


@dataclass(frozen=True)
class DieboldMariano:
    """`difference` is the mean of first − second loss: positive when the second forecast is better.

    `dm` is the plain statistic, `hln` the corrected one with n − 1 degrees of freedom;
    `p_value` is two-sided, `p_second_better` one-sided.
    """

    difference: float
    dm: float
    hln: float
    p_value: float
    p_second_better: float
    n: int


def diebold_mariano(
    first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1, kernel: Kernel = "uniform"
) -> DieboldMariano:
    """Test that two forecasts have the same expected loss.

    first, second: losses [n] per row, in time order, same rows.
    horizon: bars that one label spans; losses up to horizon − 1 rows apart are taken as correlated.
    kernel: "uniform" is the published test; its variance can turn out <= 0 for horizon > 1, which is a
        DataError. "bartlett" weights the lags down and never does.

    Equal losses on every row give statistic 0 and p = 1.
    """
    d = _differences(first, second)
    n = len(d)
    if not 1 <= horizon < n:
        raise DataError(f"horizon {horizon} with {n} rows: needs 1 <= horizon < rows")
    if not d.any():
        return DieboldMariano(0.0, 0.0, 0.0, 1.0, 1.0, n)
    variance = _long_run_variance(d, horizon, kernel) / n
    dm = d.mean() / sqrt(variance) if variance > 0 else float(np.copysign(inf, d.mean()))
    hln = dm * sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    upper = _student_tail(hln, n - 1)
    return DieboldMariano(float(d.mean()), float(dm), float(hln), 2 * min(upper, 1 - upper), upper, n)


def better(first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1) -> DieboldMariano:
    """The published test where its variance is positive, else the same with Bartlett weights."""
    try:
        return diebold_mariano(first, second, horizon=horizon)
    except NegativeVariance:
        return diebold_mariano(first, second, horizon=horizon, kernel="bartlett")


class NegativeVariance(DataError):
    """The uniform kernel gave a long-run variance <= 0."""


def _long_run_variance(d: Vector, horizon: int, kernel: Kernel) -> float:
    centred, n = d - d.mean(), len(d)
    variance = float(centred @ centred) / n
    for lag in range(1, horizon):
        weight = 1.0 if kernel == "uniform" else 1 - lag / horizon
        variance += 2 * weight * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0 and horizon > 1 and kernel == "uniform":
        raise NegativeVariance(
            f"long-run variance {variance:.3g} at horizon {horizon} is not positive: use kernel='bartlett'"
        )
    return variance


def _student_tail(t: float, freedom: int) -> float:
    """P(T > t). scipy is imported here so that the gates stay light to import."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def _differences(first: npt.ArrayLike, second: npt.ArrayLike) -> Vector:
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise DataError(
            f"losses of shape {first.shape} and {second.shape}: need two equal series of 2 rows up"
        )
    d: Vector = first - second
    if not np.isfinite(d).all():
        raise DataError("losses contain NaN or infinity: compare on rows that both forecasts cover")
    return d

"""Is one forecast better than another on the same rows, or any of several?

Of two: Diebold & Mariano 1995 with the small-sample correction of Harvey, Leybourne & Newbold 1997. Of
several against a benchmark: Hansen's test of superior predictive ability 2005, by arch, and the stepwise test
of Romano & Wolf 2005.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation.classification import losses

Vector = npt.NDArray[np.float64]
Kernel = Literal["uniform", "bartlett"]
# arch's variance takes time in the square of the rows: longer series are averaged over runs of rows first
_LONGEST = 5000


@dataclass(frozen=True)
class DieboldMariano:
    """`difference` is the mean of first − second loss: positive when the second forecast is better.

    `dm` is the plain statistic, `hln` the corrected one with n − 1 degrees of freedom, difference over
    `error`; `p_value` is two-sided, `p_second_better` one-sided.
    """

    difference: float
    dm: float
    hln: float
    p_value: float
    p_second_better: float
    n: int
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds of the expected difference, by Student's distribution, that hold it in `level` of cases."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.n - 1, (1 + level) / 2)) * self.error
        return self.difference - reach, self.difference + reach


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
        return DieboldMariano(0.0, 0.0, 0.0, 1.0, 1.0, n, 0.0)
    variance = _long_run_variance(d, horizon, kernel) / n
    dm = d.mean() / sqrt(variance) if variance > 0 else float(np.copysign(inf, d.mean()))
    correction = sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    hln, error = dm * correction, sqrt(max(variance, 0.0)) / correction
    upper = _student_tail(hln, n - 1)
    both = 2 * min(upper, 1 - upper)
    return DieboldMariano(float(d.mean()), float(dm), float(hln), both, upper, n, error)


def better(first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1) -> DieboldMariano:
    """The published test where its variance is positive, else the same with Bartlett weights."""
    try:
        return diebold_mariano(first, second, horizon=horizon)
    except NegativeVariance:
        return diebold_mariano(first, second, horizon=horizon, kernel="bartlett")


class NegativeVariance(DataError):
    """The uniform kernel gave a long-run variance <= 0."""


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the same rows, in nats of log-loss.

    champion, challenger: mean log-loss. difference: challenger − champion, above 0 when the challenger is
    worse, with its 95 % bounds low and high; statistic: Diebold-Mariano, corrected; p_not_worse: one-sided p
    that the challenger is no worse. None where there are too few rows.
    """

    rows: int
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    statistic: float | None = None
    p_not_worse: float | None = None


def paired(
    champion_p: npt.ArrayLike, challenger_p: npt.ArrayLike, y: npt.ArrayLike, *, horizon: int = 1
) -> Comparison:
    """Compare two models' probabilities [n] or [n, K] with the class numbers y [n] that came, in time order.

    horizon: bars that one label spans.
    """
    rows = len(np.asarray(y))
    if not rows:
        return Comparison(0)
    champion, challenger = losses(y, champion_p), losses(y, challenger_p)
    means = float(champion.mean()), float(challenger.mean())
    if rows <= max(horizon, 2):
        return Comparison(rows, *means, float((challenger - champion).mean()))
    test = better(challenger, champion, horizon=horizon)
    low, high = test.interval()
    return Comparison(rows, *means, test.difference, low, high, test.hln, test.p_second_better)


@dataclass(frozen=True)
class SuperiorAbility:
    """Whether any candidate beats the benchmark, given that the best of them was picked.

    p-values that none does: `consistent` is Hansen's; `lower` takes candidates worse than the benchmark out
    of the comparison, `upper` (White's reality check) lets each of them count in full. `superior` are those
    that StepM finds better, wrongly naming any in at most 5 % of cases.
    """

    lower: float
    consistent: float
    upper: float
    superior: tuple[str, ...]


def superior_ability(
    benchmark: npt.ArrayLike,
    candidates: Mapping[str, npt.ArrayLike],
    *,
    block: int,
    replications: int,
    seed: int,
) -> SuperiorAbility:
    """Test the mean LOSS of each candidate against the benchmark's; a loss is a negative return.

    benchmark, candidates: [n] per row, in time order, same rows. block: mean block of the stationary
    bootstrap in rows. Means are compared as they are, not over their deviation: a candidate that is mostly
    out of the market is not helped by its calm. One equal to the benchmark on every row is not tested, and p
    is 1 when none remains.
    """
    from arch.bootstrap import SPA

    differences = {name: _differences(benchmark, loss) for name, loss in candidates.items()}
    names = [name for name, d in differences.items() if d.any()]
    if not names:
        return SuperiorAbility(1.0, 1.0, 1.0, ())
    run = ceil(len(differences[names[0]]) / _LONGEST)
    d = np.column_stack([_run_means(differences[name], run) for name in names])
    test = SPA(np.zeros(len(d)), -d, block_size=ceil(block / run), reps=replications, seed=seed)
    test.compute()
    lower, consistent, upper = (float(test.pvalues[kind]) for kind in ("lower", "consistent", "upper"))
    return SuperiorAbility(lower, consistent, upper, tuple(names[at] for at in _stepwise(test, len(names))))


def _stepwise(test: Any, count: int) -> list[int]:
    """StepM at 5 % over the resamples of an SPA test. arch's own fails when its steps end up taking all."""
    found: list[int] = []
    while len(found) < count:
        test.subset(~np.isin(np.arange(count), found))
        test.compute()
        step = [int(at) for at in test.better_models(0.05)]
        if not step:
            break
        found += step
    return sorted(found)


def _run_means(values: Vector, run: int) -> Vector:
    """Means of runs of `run` rows, the last rows that fill none left out."""
    return np.asarray(values[: len(values) // run * run].reshape(-1, run).mean(axis=1))


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

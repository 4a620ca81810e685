"""Performance and risk of one series of simple per-period returns, float64 [n], net or gross as given.

Functions refuse NaN and infinity (DataError): dropping them in silence, as common libraries do, turns a
missing month into a calm one. A ratio that is not defined (no variation, no loss) is NaN or infinite.
`periods` is the number of periods per year of the bars' calendar: 252 for daily equities, not for others.
"""

from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation.overfitting import psr

Vector = npt.NDArray[np.float64]


def equity(returns: npt.ArrayLike) -> Vector:
    """Wealth after each period, starting from 1 before the first, [n]."""
    curve: Vector = np.multiply.accumulate(1.0 + _checked(returns))
    return curve


def drawdown(returns: npt.ArrayLike) -> Vector:
    """Loss from the highest wealth so far (the starting wealth included), [n], <= 0."""
    curve = equity(returns)
    return curve / np.maximum(np.maximum.accumulate(curve), 1.0) - 1


def max_drawdown(returns: npt.ArrayLike) -> float:
    """The deepest drawdown, negative: −.25 is a quarter of the wealth."""
    return float(drawdown(returns).min())


def ulcer(returns: npt.ArrayLike) -> float:
    """Ulcer index: root of the squared drawdowns summed over n − 1, as quantstats has it."""
    depths = drawdown(returns)
    return sqrt(float((depths**2).sum()) / (len(depths) - 1))


def cagr(returns: npt.ArrayLike, periods: float) -> float:
    """Compound annual growth rate; −1 once the wealth is lost."""
    curve = equity(returns)
    return float(max(curve[-1], 0.0) ** (periods / len(curve)) - 1)


def volatility(returns: npt.ArrayLike, periods: float) -> float:
    """Annualised standard deviation, ddof 1."""
    return float(_checked(returns).std(ddof=1) * sqrt(periods))


def sharpe(returns: npt.ArrayLike, periods: float = 1.0) -> float:
    """Mean over standard deviation (ddof 1) times √periods; per period by default.

    NaN when the series does not move.
    """
    r = _checked(returns)
    # the value range, not the deviation: rounding leaves 1e-18 where it should be 0
    return float(r.mean() / r.std(ddof=1) * sqrt(periods)) if np.ptp(r) > 0 else float("nan")


def sortino(returns: npt.ArrayLike, periods: float = 1.0) -> float:
    """Mean over downside deviation √mean(min(r, 0)²), taken over ALL n rows, times √periods."""
    r = _checked(returns)
    return _ratio(r.mean() * sqrt(periods), sqrt(float((np.minimum(r, 0) ** 2).mean())))


def calmar(returns: npt.ArrayLike, periods: float) -> float:
    """CAGR over the size of the maximum drawdown."""
    return _ratio(cagr(returns, periods), -max_drawdown(returns))


def omega(returns: npt.ArrayLike, threshold: float = 0.0) -> float:
    """Gains over losses against `threshold`; at 0 it is the profit factor. Infinite without a loss."""
    excess = _checked(returns) - threshold
    return _ratio(float(np.maximum(excess, 0).sum()), float(np.maximum(-excess, 0).sum()))


def tail_ratio(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Size of the right tail quantile over that of the left."""
    low, high = np.quantile(_checked(returns), [tail, 1 - tail])
    return _ratio(abs(float(high)), abs(float(low)))


def value_at_risk(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Historical value at risk: the `tail` quantile of the returns (a loss is negative)."""
    return float(np.quantile(_checked(returns), tail))


def expected_shortfall(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Historical CVaR: the mean of the returns at or below the value at risk."""
    r = _checked(returns)
    return float(r[r <= np.quantile(r, tail)].mean())


def gaussian_value_at_risk(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Value at risk of a normal distribution with the mean and deviation (ddof 1) of the returns."""
    r = _checked(returns)
    return float(r.mean() + NormalDist().inv_cdf(tail) * r.std(ddof=1))


def gaussian_expected_shortfall(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Expected shortfall of that normal distribution."""
    r, normal = _checked(returns), NormalDist()
    return float(r.mean() - normal.pdf(normal.inv_cdf(tail)) / tail * r.std(ddof=1))


def skew(returns: npt.ArrayLike) -> float:
    """Third standardised moment (population form); 0 for a series that does not move."""
    return _moment(returns, 3, 0.0)


def kurtosis(returns: npt.ArrayLike) -> float:
    """Fourth standardised moment, RAW: 3 for a normal, and for a series that does not move."""
    return _moment(returns, 4, 3.0)


def win_rate(returns: npt.ArrayLike) -> float:
    """Share of gains among the periods that moved; NaN when none did."""
    r = _checked(returns)
    moved = np.count_nonzero(r)
    return float((r > 0).sum() / moved) if moved else float("nan")


def summary(returns: npt.ArrayLike, periods: float) -> dict[str, float]:
    """Every figure of this module by name; `n` is the number of returns, `sharpe_per_period` feeds PSR.

    `var_05` and `cvar_05` are historical, `gaussian_*` assume a normal. Undefined ratios are NaN or inf.
    """
    r = _checked(returns)
    per_period = sharpe(r)
    return {
        "n": len(r),
        "periods_per_year": float(periods),
        "total_return": float(equity(r)[-1] - 1),
        "cagr": cagr(r, periods),
        "volatility": volatility(r, periods),
        "sharpe": per_period * sqrt(periods),
        "sharpe_per_period": per_period,
        "sortino": sortino(r, periods),
        "calmar": calmar(r, periods),
        "max_drawdown": max_drawdown(r),
        "ulcer": ulcer(r),
        "omega": omega(r),
        "tail_ratio": tail_ratio(r),
        "win_rate": win_rate(r),
        "var_05": value_at_risk(r),
        "cvar_05": expected_shortfall(r),
        "gaussian_var_05": gaussian_value_at_risk(r),
        "gaussian_cvar_05": gaussian_expected_shortfall(r),
        "skew": skew(r),
        "kurtosis": kurtosis(r),
        "psr": psr(per_period, len(r), skew(r), kurtosis(r)),
    }


def _moment(returns: npt.ArrayLike, order: int, still: float) -> float:
    r = _checked(returns)
    if np.ptp(r) == 0:
        return still
    return float((((r - r.mean()) / r.std()) ** order).mean())


def _ratio(top: float, bottom: float) -> float:
    if bottom > 0:
        return float(top / bottom)
    return float("inf") if top > 0 else float("nan")


def _checked(returns: npt.ArrayLike) -> Vector:
    r = np.asarray(returns, dtype=np.float64)
    if r.ndim != 1 or len(r) < 2:
        raise DataError(f"returns of shape {r.shape}: needs one series of 2 returns or more")
    if not np.isfinite(r).all():
        row = int(np.flatnonzero(~np.isfinite(r))[0])
        raise DataError(f"return {r[row]} at row {row}: cut to the rows with data before measuring")
    if (r < -1).any():
        row = int(np.flatnonzero(r < -1)[0])
        raise DataError(f"return {r[row]} at row {row}: more than everything lost; are these percentages?")
    return r

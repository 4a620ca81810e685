"""Daily bars whose truth is known: noise without any edge, and a drift of exactly known use.

Every world trades round the clock five days a week and opens where it closed, so a signal that is filled
at the next open earns the whole next bar. Highs and lows are extremes of a Brownian bridge over the bar.
"""

from dataclasses import dataclass
from math import asin, pi, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

CALENDAR = "24/5"
PERIODS = 260
"""Bars a year of that calendar."""
SIGMA = 0.01
"""Standard deviation of one bar's log return, in every world."""
ALPHA, BETA, FREEDOM = 0.08, 0.9, 5.0
"""Of the GARCH(1,1) and its Student innovations."""
DRIFT = 0.5
"""Annual Sharpe of buying and holding the GARCH world, which no forecast improves."""
_BURN = 500
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Edge:
    """A hidden drift: log return = SIGMA * (sqrt(share) d + sqrt(1 - share) noise), d an AR(1) of variance 1.

    r: correlation of the best forecast from past returns, the Kalman filter's, with the next return.
    persistence: autocorrelation of d from bar to bar.
    """

    r: float
    persistence: float

    @property
    def share(self) -> float:
        """Share of the drift in the variance of returns, such that the best forecast correlates by `r`."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._explained(middle) < self.r**2 else (low, middle)
        return (low + high) / 2

    def _explained(self, share: float) -> float:
        """Share of the next return's variance that the steady Kalman filter forecasts."""
        a, noise = self.persistence**2, (1 - share) / share
        # the filter's error variance p solves p = a p noise / (p + noise) + 1 - a
        b = noise * (1 - a) - (1 - a)
        p = (-b + sqrt(b * b + 4 * noise * (1 - a))) / 2
        return share * (1 - p)

    def hit_rate(self, horizon: int) -> float:
        """Best share of right signs of the return over `horizon` bars."""
        ahead = sum(self.persistence**k for k in range(horizon))
        lags = sum((horizon - k) * self.persistence**k for k in range(1, horizon))
        r = self.r * ahead / sqrt(horizon + 2 * self.share * lags)
        return 0.5 + asin(r) / pi

    def sharpe(self) -> float:
        """Best annual Sharpe before costs of rules that hold the side of the best forecast of the next bar
        whenever it exceeds a threshold, and nothing else.
        """
        return max(self._sharpe_beyond(0.01 * step) for step in range(200)) * sqrt(PERIODS)

    def _sharpe_beyond(self, threshold: float) -> float:
        """Sharpe per bar of holding its side beyond `threshold` standard deviations of the forecast."""
        density, tail = _NORMAL.pdf(threshold), 1 - _NORMAL.cdf(threshold)
        mean = 2 * self.r * density
        square = 2 * tail + 2 * self.r**2 * threshold * density
        return mean / sqrt(square - mean**2)


def random_walk(rng: np.random.Generator, rows: int) -> Floats:
    """Independent normal log returns without drift [rows]."""
    return SIGMA * rng.standard_normal(rows)


def garch(rng: np.random.Generator, rows: int) -> Floats:
    """GARCH(1,1) log returns with Student innovations, after Bollerslev 1987, and a constant drift [rows]."""
    shocks = rng.standard_t(FREEDOM, rows + _BURN) * sqrt((FREEDOM - 2) / FREEDOM)
    returns, variance = np.empty(rows + _BURN), SIGMA**2
    for i, shock in enumerate(shocks):
        returns[i] = sqrt(variance) * shock
        variance = (1 - ALPHA - BETA) * SIGMA**2 + ALPHA * returns[i] ** 2 + BETA * variance
    return returns[_BURN:] + DRIFT * SIGMA / sqrt(PERIODS)


def drifting(rng: np.random.Generator, rows: int, edge: Edge) -> Floats:
    """Log returns with the hidden drift of `edge` [rows]."""
    a = edge.persistence
    shocks = rng.standard_normal(rows + _BURN)
    drift = np.empty(rows + _BURN)
    drift[0] = shocks[0]
    for i in range(1, len(drift)):
        drift[i] = a * drift[i - 1] + sqrt(1 - a * a) * shocks[i]
    noise = rng.standard_normal(rows)
    return SIGMA * (sqrt(edge.share) * drift[_BURN:] + sqrt(1 - edge.share) * noise)


def bars(rng: np.random.Generator, returns: Floats) -> pd.DataFrame:
    """A table of date, open, high, low, close, volume around log returns [n], as a user's file has it."""
    n = len(returns)
    path = np.log(100.0) + np.cumsum(returns)
    opened = path - returns
    up, down = (_reach(rng, sign * returns, n) for sign in (1.0, -1.0))
    table = {
        "date": pd.bdate_range("2010-01-04", periods=n),
        "open": np.exp(opened),
        "high": np.exp(np.maximum(opened + up, np.maximum(opened, path))),
        "low": np.exp(np.minimum(opened - down, np.minimum(opened, path))),
        "close": np.exp(path),
        "volume": np.exp(10.0 + 0.3 * rng.standard_normal(n)),
    }
    return pd.DataFrame(table)


def _reach(rng: np.random.Generator, moves: Floats, rows: int) -> Floats:
    """The highest point over its start of a Brownian bridge that ends at each of `moves`."""
    tail = -2 * SIGMA**2 * np.log(rng.uniform(size=rows))
    return np.asarray((moves + np.sqrt(moves**2 + tail)) / 2)

"""Bars for the laws of the catalogue: the real index and generated extremes."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import features

Floats = npt.NDArray[np.float64]
ROWS = 700


def _bars(close: Floats, volume: Floats, spread: float, times: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    opened = close * np.exp(spread * rng.normal(size=len(close)))
    high = np.maximum(opened, close) * np.exp(spread * rng.random(len(close)))
    low = np.minimum(opened, close) * np.exp(-spread * rng.random(len(close)))
    values = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame(values, index=times.rename("timestamp"))


def generated_markets() -> dict[str, pd.DataFrame]:
    """Named frames of ROWS canonical bars."""
    rng = np.random.default_rng(11)
    days = pd.date_range("2015-01-01 21:00", periods=ROWS, freq="D", tz="UTC")
    minutes = pd.date_range("2020-02-27 23:50", periods=ROWS, freq="min", tz="UTC")
    gaps = minutes[0] + pd.to_timedelta(np.cumsum(rng.integers(1, 90_000, ROWS)), unit="s")
    walk = np.exp(np.cumsum(0.01 * rng.standard_t(3, ROWS)))
    volume = rng.lognormal(10, 1, ROWS)
    flat = np.where(np.arange(ROWS) % 300 < 120, 100.0, 100 * walk)
    silent = np.where(np.arange(ROWS) % 250 < 90, 0.0, volume)
    frozen = _bars(np.full(ROWS, 0.1), np.zeros(ROWS), 0.0, days, 1)
    calm = _bars(100 * walk, volume, 0.005, days, 2)
    still = _bars(flat, silent, 0.0, minutes, 3)
    return {
        "calm": calm,
        "gaps": _bars(50 * walk, volume, 0.02, gaps, 4),
        "flat_and_silent": still,
        "frozen": frozen,
        "huge": _bars(1e12 * walk, volume * 1e9, 0.01, days, 5),
        "tiny": _bars(1e-9 * walk, volume * 1e-6, 0.01, minutes, 6),
        "one_spike": _bars(np.where(np.arange(ROWS) == 300, 1e6, 1.0) * walk, volume, 0.01, days, 7),
    }


@pytest.fixture(scope="session")
def markets(sp500: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Generated markets and the real index."""
    return {"sp500": sp500, **generated_markets()}


@pytest.fixture(scope="session")
def built(markets: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The whole catalogue over every market."""
    return {name: features.build(bars) for name, bars in markets.items()}

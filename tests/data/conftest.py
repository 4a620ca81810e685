"""Fixtures of the data tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.timeframe import Timeframe
from data.quality import QualityReport, validate

HOUR = Timeframe(3600)


def _make_bars(n: int = 48, seed: int = 0, start: str = "2024-01-01 01:00", freq: str = "1h") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, n)))
    open_ = close * (1 + rng.normal(0, 0.001, n))
    index = pd.date_range(start, periods=n, freq=freq, tz="UTC", name="timestamp", unit="ns")
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": rng.integers(0, 1000, n).astype(float),
        },
        index=pd.DatetimeIndex(index, freq=None),
    )


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., pd.DataFrame]:
    """Canonical made-up bars: `make_bars(n, seed, start, freq)`."""
    return _make_bars


@pytest.fixture(scope="session")
def check() -> Callable[..., QualityReport]:
    """`validate` for hourly round-the-clock bars with lenient limits; keywords override."""

    def run(bars: pd.DataFrame, **overrides: object) -> QualityReport:
        limits: dict[str, object] = {
            "timeframe": HOUR,
            "calendar": "24/7",
            "min_rows": 1,
            "max_jump": 0.5,
            "stale_bars": 5,
        }
        return validate(bars, **{**limits, **overrides})  # type: ignore[arg-type]

    return run


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[[str], Path]:
    """Write text to a file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "GOOG.csv"
        path.write_text(text)
        return path

    return write

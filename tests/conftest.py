"""Fixtures shared by every room."""

import os
from pathlib import Path

import hypothesis
import pandas as pd
import pytest

from core.settings import disable_telemetry

disable_telemetry()

# A busy machine is slow, not wrong: time decides no test here.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def sp500() -> pd.DataFrame:
    """S&P 500 daily bars, 1999–2018, canonical."""
    from data.sources import SourceRequest, open_source

    request = SourceRequest(
        symbol="sp500", path=None, timeframe="1d", calendar="XNYS", start=None, until=None
    )
    return open_source("arch_sp500").fetch(request).bars


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real bars beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED.name}/ with sample bars is not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the checkout's var/ and mlflow/."""
    for name in [n for n in os.environ if n.startswith("BELLWETHER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BELLWETHER_HOME", str(tmp_path / "home"))

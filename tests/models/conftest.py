"""Fixtures of the models' tests: one small fitted ensemble, its graph and its bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.signal import Thresholds
from models.bundle_build import BundleFacts, Reference, build, golden_rows
from models.calibration import fit_calibrator
from models.dataset import Dataset, windows
from models.ensemble import Ensemble, fit_stack
from models.families import get_families
from models.families.attention import LstmAttention
from models.families.base import Scaler
from models.families.lstm import Lstm
from models.onnx_export import export

DAY = 86_400_000_000_000
WINDOW = 8


@pytest.fixture(scope="session")
def export_data() -> Dataset:
    """1,200 rows of 10 features: some on a coarse grid, so that rows sit on thresholds, some with gaps."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1200, 10)).astype(np.float32)
    x[:, :5] = np.round(x[:, :5], 1)
    x[:, 3:][rng.random((1200, 7)) < 0.03] = np.nan
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=1200) > 0).astype(np.float64)
    times = np.arange(1200, dtype=np.int64) * DAY
    return Dataset(times, x, y, np.ones(1200), times + DAY, tuple(f"f{k}" for k in range(10)))


@pytest.fixture(scope="session")
def held_out() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of `export_data` that no model was fitted on."""
    return np.arange(800, 1200)


@pytest.fixture(scope="session")
def export_ensemble(export_data: Dataset, held_out: np.ndarray[Any, np.dtype[np.int64]]) -> Ensemble:
    """Every family, stack and calibrator; the LSTM has random weights, larger than training would leave."""
    rows = np.arange(800)
    tabular = get_families(["base_rate", "logistic", "lightgbm", "catboost"])
    fitted: dict[str, Any] = {
        family.name: family.fit(export_data, rows, seed=1, window=WINDOW, params={}) for family in tabular
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = LstmAttention(10, 16, 0.0, WINDOW).eval()
    scaler = Scaler.fit(export_data.x[rows])
    fitted["lstm"] = Lstm(scaler.mean, scaler.scale, module, WINDOW)
    base = np.column_stack([model.predict(export_data.x, held_out) for model in fitted.values()])
    y, w = export_data.y[held_out], np.ones(len(held_out))
    stack = fit_stack(list(fitted), base, y, w)
    calibrator = fit_calibrator("sigmoid", stack.logit(base), y, w)
    return Ensemble(fitted, stack, calibrator, export_data.names, WINDOW)


@pytest.fixture(scope="session")
def export_bytes(export_ensemble: Ensemble) -> bytes:
    """The ensemble's graph."""
    return export(
        export_ensemble.fitted, export_ensemble.stack, export_ensemble.calibrator, features=10, window=WINDOW
    )


@pytest.fixture(scope="session")
def make_bundle(
    export_data: Dataset,
    export_ensemble: Ensemble,
    export_bytes: bytes,
    held_out: np.ndarray[Any, np.dtype[np.int64]],
) -> Callable[..., Path]:
    """make_bundle(directory, **changes of the facts) -> directory."""

    def make(directory: Path, *, model_bytes: bytes = export_bytes, **changes: Any) -> Path:
        facts: dict[str, Any] = {
            "model": "test-1d",
            "symbol": "test",
            "timeframe": "1d",
            "as_of": "2018-12-31T21:00:00Z",
            "definitions": {name: f"close - {k}" for k, name in enumerate(export_data.names)},
            "warmup": 20,
            "window": WINDOW,
            "base_models": export_ensemble.stack.names,
            "thresholds": Thresholds(0.6, 0.55, 0.45, 0.4),
            "label": {"kind": "fixed_horizon", "horizon": 5},
            "parity": {"lightgbm": 1e-16, "probability": 1e-10},
            "data_hash": "d" * 64,
            "params_hash": "p" * 64,
            "tradable": False,
            "reasons": ["deflated Sharpe 0.41 < 0.95"],
        }
        times, x = export_data.times[held_out], export_data.x[held_out]
        build(
            directory,
            BundleFacts(**{**facts, **changes}),
            model=model_bytes,
            checkpoint=b"stream",
            state_window=export_data.x[-WINDOW:],
            golden=windows(export_data.x, golden_rows(export_data.x, held_out, 3), WINDOW),
            reference=Reference(times, x, export_ensemble.predict(export_data.x, held_out).probability),
        )
        return directory

    return make

"""Fixtures of the models' tests: small fitted ensembles of every family, a graph and a bundle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.signal import Thresholds
from models.bundle_build import BundleFacts, Reference, build, golden_rows
from models.dataset import Dataset, windows
from models.ensemble import Ensemble, Recipe
from models.families import FAMILIES
from models.onnx_export import export
from models.targets import PRIMARY_SIDE, Target
from tests.models.ensembles import WINDOW, Rows, build_ensemble

DAY = 86_400_000_000_000


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
def three_class_data(export_data: Dataset) -> Dataset:
    """The same rows with three classes that depend on them."""
    rng = np.random.default_rng(11)
    rise = export_data.x[:, 0] + export_data.x[:, 1] * export_data.x[:, 2] + rng.normal(size=1200)
    y = np.digitize(rise, [-0.6, 0.6]).astype(np.float64)
    return replace(export_data, y=y, target=Target("barrier"))


@pytest.fixture(scope="session")
def meta_data(export_data: Dataset) -> Dataset:
    """The same rows under a primary signal, long, short or none, whose side is the last feature."""
    rng = np.random.default_rng(12)
    x = export_data.x.copy()
    x[:, -1] = rng.integers(-1, 2, 1200)
    x[::50, -1] = np.nan
    names = (*export_data.names[:-1], PRIMARY_SIDE)
    return replace(export_data, x=x, names=names, target=Target.of("meta", names))


@pytest.fixture(scope="session")
def held_out() -> Rows:
    """Rows of `export_data` that no model was fitted on."""
    return np.arange(800, 1200)


@pytest.fixture(scope="session")
def export_ensemble(export_data: Dataset, held_out: Rows) -> Ensemble:
    """Every family of two classes, stacked."""
    return build_ensemble(export_data, np.arange(800), held_out, list(FAMILIES), Recipe())


@pytest.fixture(scope="session")
def export_bytes(export_ensemble: Ensemble) -> bytes:
    """The ensemble's graph."""
    return export(export_ensemble)


@pytest.fixture(scope="session")
def make_bundle(
    export_data: Dataset,
    export_ensemble: Ensemble,
    export_bytes: bytes,
    held_out: Rows,
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
            "classes": export_data.classes,
            "base_models": export_ensemble.names,
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

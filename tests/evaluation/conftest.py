"""A record of four models on the same rows, good enough to pass every gate."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation import evidence, performance, regimes
from evaluation.accounts import Accounts, Resampling

ROWS = 3000
MODELS = ("base_rate", "logistic", "lightgbm", "ensemble")


# {model: (seed, Sharpe a year, trades)}
RECORDS = {
    "base_rate": (1, 0.4, 1),
    "logistic": (2, 0.9, 200),
    "lightgbm": (3, 1.1, 200),
    "ensemble": (4, 1.4, 200),
}
BENCHMARK = (5, 0.4, 1)


def earned(seed: int, sharpe: float, _: int = 0) -> np.ndarray:
    """Daily returns whose sample Sharpe is `sharpe` a year."""
    r = np.random.default_rng(seed).normal(size=ROWS)
    return 0.006 * ((r - r.mean()) / r.std(ddof=1) + sharpe / 252**0.5)


def account(seed: int, sharpe: float, trades: int) -> dict[str, float]:
    """Their summary."""
    return {**performance.summary(earned(seed, sharpe), 252), "trades": trades}


def importance() -> pd.DataFrame:
    """Five features, none of which carries nearly everything."""
    features = [f"feature_{number}" for number in range(5)]
    return pd.DataFrame(
        {
            "feature": features * 2,
            "family": ["logistic"] * 5 + ["lightgbm"] * 5,
            "permutation": [0.004, 0.003, 0.002, 0.0, -0.001, 0.006, 0.001, 0.002, 0.0, 0.001],
            "permutation_std": [0.001] * 10,
            "shap": [0.2, 0.1, 0.1, 0.0, 0.0, 0.4, 0.1, 0.2, 0.0, 0.1],
        }
    )


def path_scores() -> pd.DataFrame:
    """Five paths of two families."""
    rng = np.random.default_rng(8)
    return pd.DataFrame(
        {
            "family": ["logistic"] * 5 + ["lightgbm"] * 5,
            "path": list(range(5)) * 2,
            "sharpe": rng.normal(0.6, 0.5, 10),
            "log_loss": rng.normal(0.69, 0.002, 10),
        }
    )


def accounts() -> Accounts:
    """Their accounts bar by bar, in the regimes of a random walk."""
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(6).normal(0, 0.01, ROWS + 300)))
    labels = regimes.label(closes, np.datetime64("2000-01-03") + np.arange(ROWS + 300))
    return Accounts(
        {name: earned(*figures) for name, figures in RECORDS.items()},
        earned(*BENCHMARK),
        252,
        bar_regimes={kind: of[-ROWS - 1 : -1] for kind, of in labels.items()},
        row_regimes={kind: of[-ROWS:] for kind, of in labels.items()},
    )


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Arguments of `assemble`; tests change what they are about."""
    rng = np.random.default_rng(11)
    edge = rng.normal(0, 0.08, ROWS)
    p = np.clip(0.53 + edge, 0.05, 0.95)
    y = (rng.uniform(size=ROWS) < p).astype(float)
    noise = {name: rng.normal(0, 0.02, ROWS) for name in MODELS}
    probabilities = {name: np.clip(p + noise[name], 0.01, 0.99) for name in MODELS}
    return {
        "y": y,
        "probabilities": {**probabilities, "base_rate": np.full(ROWS, 0.53), "ensemble": p},
        "fold_ids": np.repeat(np.arange(6), ROWS // 6),
        "backtests": {name: account(*figures) for name, figures in RECORDS.items()},
        "benchmark": account(*BENCHMARK),
        "horizon": 5,
        "leaks": [{"check": "future_shuffled", "passed": True, "detail": "120 features unchanged"}],
        "importance": importance(),
    }


@pytest.fixture
def record(inputs: dict[str, Any]) -> dict[str, Any]:
    """The evidence dict, without what needs the accounts bar by bar."""
    return evidence.assemble(**inputs)


@pytest.fixture
def whole(inputs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `assemble` that give every section."""
    more = {"accounts": accounts(), "path_scores": path_scores(), "resampling": Resampling(200, 1)}
    return {**inputs, **more}


@pytest.fixture
def parity() -> dict[str, float]:
    bases = {"base_rate": 0.0, "logistic": 1e-8, "lightgbm": 4e-7}
    return {**bases, "probability": 9e-5, "class_probabilities": 9e-5, "confidence": 1e-4}

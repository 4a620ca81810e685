"""A record of five models on the same rows, good enough to pass every gate."""

from typing import Any

import numpy as np
import pytest

from evaluation import evidence, performance

ROWS = 3000
MODELS = ("base_rate", "logistic", "lightgbm", "ensemble")


def account(seed: int, sharpe: float, trades: int = 200) -> dict[str, float]:
    """Summary of daily returns whose sample Sharpe is `sharpe` a year."""
    r = np.random.default_rng(seed).normal(size=ROWS)
    r = 0.006 * ((r - r.mean()) / r.std(ddof=1) + sharpe / 252**0.5)
    return {**performance.summary(r, 252), "trades": trades}


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
        "backtests": {
            "base_rate": account(1, 0.4, 1),
            "logistic": account(2, 0.9),
            "lightgbm": account(3, 1.1),
            "ensemble": account(4, 1.4),
        },
        "benchmark": account(5, 0.4, 1),
        "horizon": 5,
    }


@pytest.fixture
def record(inputs: dict[str, Any]) -> dict[str, Any]:
    """The evidence dict."""
    return evidence.assemble(**inputs)


@pytest.fixture
def parity() -> dict[str, float]:
    return {"base_rate": 0.0, "logistic": 1e-8, "lightgbm": 4e-7, "probability": 9e-5, "confidence": 1e-4}

import numpy as np
import pandas as pd
import pytest

from evaluation import paths


def test_distribution():
    scores = pd.DataFrame(
        {
            "family": ["b", "a", "b", "a"],
            "path": [1, 0, 0, 1],
            "sharpe": [0.5, np.nan, -0.5, 1.0],
            "log_loss": [0.69, 0.68, 0.70, 0.66],
        }
    )
    found = paths.distribution(scores)
    assert list(found) == ["a", "b"]
    assert found["b"]["sharpe"]["values"] == [-0.5, 0.5]
    # a path that never traded earned nothing
    assert found["a"]["sharpe"]["values"] == [0.0, 1.0]
    assert (found["a"]["losing"], found["b"]["losing"]) == (0.5, 0.5)
    assert found["a"]["log_loss"]["median"] == pytest.approx(0.67)
    assert found["a"]["log_loss"]["low"] == pytest.approx(0.661)
    assert found["b"]["paths"] == 2

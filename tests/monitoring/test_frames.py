from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from monitoring.frames import log_frame, recent_windows
from monitoring.prediction_log import Prediction, PredictionLog, read

DAY = 86_400.0


def logged(bar: int, at: float, probability: float, version: str = "1") -> Prediction:
    features = np.array([float(bar), probability]).astype("<f8").tobytes()
    return Prediction(
        "sp500", bar * DAY, at, "sp500-1d", version, "hash", probability, 0.1, "hold", {"logistic": 0.5},
        features, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2,
    )  # fmt: skip


def write(directory: Path, rows: list[Prediction]) -> None:
    log = PredictionLog(directory, ["level", "twin"])
    for row in rows:
        log.append(row)
    log.close()


def test_log_becomes_one_row_per_bar_with_feature_columns(tmp_path: Path) -> None:
    write(tmp_path, [logged(2, 5.0, 0.2), logged(1, 4.0, 0.1), logged(2, 6.0, 0.3)])
    frame = log_frame(read(tmp_path))
    assert frame["level"].tolist() == [1.0, 2.0]
    assert frame["twin"].tolist() == frame["probability"].tolist() == [0.1, 0.3]
    assert str(frame.index.tz) == "UTC"
    assert frame.index[0] == pd.Timestamp("1970-01-02", tz="UTC")


def test_versions_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, [logged(1, 4.0, 0.1), logged(2, 5.0, 0.2, version="2")])
    with pytest.raises(DataError, match="model_version"):
        log_frame(read(tmp_path))
    assert len(log_frame(read(tmp_path, model_version="2"))) == 1


@pytest.mark.parametrize(
    ("rows", "ends"), [(100, [90, 100]), (95, [85, 95]), (89, [79, 89]), (85, [85]), (20, [20])]
)
def test_recent_windows(rows: int, ends: list[int]) -> None:
    frame = pd.DataFrame({"x": np.arange(rows)})
    windows = recent_windows(frame, 79 if rows == 89 else 80, advance=0.12)
    assert [int(w["x"].iloc[-1]) + 1 for w in windows] == ends
    assert all(len(w) <= 80 for w in windows)

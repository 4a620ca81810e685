"""Old predictions go, by age and by size; what drift needs stays."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from core.errors import ArtifactError
from monitoring import prediction_log
from monitoring.log_files import segment_file
from monitoring.prediction_log import Prediction, PredictionLog, Retention, read
from monitoring.prediction_table import symbols_of, to_table, write_segment
from monitoring.retention import prune

DAY = 86_400.0


def fill(directory: Path, days: list[str], rows: int = 10) -> list[Path]:
    """A segment per entry, of `rows` predictions of that symbol; the first was written longest ago."""
    segments = []
    for number, symbol in enumerate(days):
        made = [_prediction(symbol, number * rows + i) for i in range(rows)]
        segments.append(segment_file(directory, number + 1, number + 1).path)
        write_segment(segments[-1], to_table(["a"], made))
    for age, path in enumerate(reversed(segments)):
        os.utime(path, (time.time() - age * DAY,) * 2)
    return segments


def _prediction(symbol: str, bar: int) -> Prediction:
    vector = np.zeros(1).tobytes()
    return Prediction(
        symbol, bar * DAY, bar * DAY, "m-1d", "1", "hash", 0.5, 0.1, "hold", {"a": 0.5},
        vector, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2,
    )  # fmt: skip


def test_age_removes_whole_segments_and_keeps_the_newest_rows(tmp_path: Path) -> None:
    segments = fill(tmp_path, ["x"] * 6)
    assert prune(tmp_path, Retention(days=1.5, min_rows=1)) == segments[:4]
    assert read(tmp_path).num_rows == 20


@pytest.mark.parametrize(("min_rows", "left"), [(1, 2), (20, 2), (25, 3), (1000, 6)])
def test_min_rows_stay_whatever_their_age(tmp_path: Path, min_rows: int, left: int) -> None:
    segments = fill(tmp_path, ["x"] * 6)
    for path in segments[:-2]:
        os.utime(path, (0, 0))
    prune(tmp_path, Retention(days=30.0, min_rows=min_rows))
    assert len(list(tmp_path.glob("segment-*"))) == left


def test_each_symbol_keeps_its_own_rows(tmp_path: Path) -> None:
    segments = fill(tmp_path, ["rare", "x", "x", "x"])
    assert prune(tmp_path, Retention(days=0.5, min_rows=5)) == segments[1:3]
    assert set(read(tmp_path)["symbol"].to_pylist()) == {"rare", "x"}


def test_size_removes_the_oldest_first(tmp_path: Path) -> None:
    segments = fill(tmp_path, ["x"] * 5)
    limit = 2.5 * segments[0].stat().st_size / 1e6
    assert prune(tmp_path, Retention(megabytes=limit, min_rows=1)) == segments[:3]
    assert prune(tmp_path, Retention(megabytes=limit, min_rows=1)) == []


def test_a_damaged_segment_stays_and_does_not_count(tmp_path: Path) -> None:
    segments = fill(tmp_path, ["x"] * 3)
    segments[2].write_bytes(segments[2].read_bytes()[:-8])
    with pytest.raises(ArtifactError):
        symbols_of(segments[2])
    os.utime(segments[2], (0, 0))
    assert prune(tmp_path, Retention(days=0.5, min_rows=5)) == segments[:1]


def test_a_running_log_applies_it_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "SEAL_SECONDS", 0.05)
    fill(tmp_path, ["x"] * 3)
    log = PredictionLog(tmp_path, ["a"], sync_seconds=0.01, retention=Retention(days=0.5, min_rows=5))
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("segment-*"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    log.close()
    assert read(tmp_path)["bar_time"].to_pylist()[0].day == 21

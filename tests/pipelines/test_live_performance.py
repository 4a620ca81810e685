"""Live performance comes from the log alone: its bars give the labels of its own predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.bars import COLUMNS
from core.bundle import FeatureDefinition, Manifest
from core.market_hours import MarketHours
from core.signal import Thresholds
from models.labels import make_labels
from monitoring.frames import log_frame
from monitoring.prediction_log import Prediction, PredictionLog, read
from pipelines.live_performance import Live, live_performance, logged_bars
from pipelines.params import Drift, load

ROOT = Path(__file__).resolve().parents[2]
WEEKDAYS = MarketHours("weekdays", closes=21 * 60, until="2099-12-31")


@pytest.fixture(scope="module")
def rules() -> Drift:
    return load(ROOT / "params.yaml").drift


def make_bars(rows: int, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    index = pd.date_range("2010-01-04 21:00", periods=rows, freq="B", tz="UTC", name="timestamp")
    values = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close, "volume": 1e6}
    return pd.DataFrame(values, index=index)[list(COLUMNS)]


def manifest(horizon: int = 1, hours: MarketHours | None = None) -> Manifest:
    return Manifest(
        1, "m-1d", "m", "1d", "2010-01-01T21:00:00+00:00", {}, [FeatureDefinition("a", "close")], 1, 2,
        ["down", "up"], ["logistic"], Thresholds(0.6, 0.55, 0.45, 0.4),
        {"kind": "fixed_horizon", "horizon": horizon}, {}, "hash", "hash", True, [], hours,
    )  # fmt: skip


def judge(
    directory: Path, bars: pd.DataFrame, probability: np.ndarray, about: Manifest, rules: Drift
) -> Live:
    log = PredictionLog(directory, ["a"])
    for moment, row, p in zip(bars.index, bars.to_numpy().tolist(), probability, strict=True):
        at = moment.timestamp()
        vector = np.zeros(1).tobytes()
        log.append(Prediction("m", at, at, "m-1d", "1", "hash", float(p), 0.1, "hold", {}, vector, *row, 0.2))
    log.close()
    table = read(directory)
    pd.testing.assert_frame_equal(logged_bars(table, "m"), bars, check_freq=False, check_index_type=False)
    return live_performance(table, log_frame(table), about, rules, 250)


def ups(bars: pd.DataFrame, horizon: int = 1) -> np.ndarray:
    """The outcome of every bar, 1 for those that are not known yet."""
    return make_labels(bars, horizon=horizon)["label"].reindex(bars.index).fillna(1.0).to_numpy()


def test_a_model_that_is_always_wrong_is_found_and_a_right_one_is_not(tmp_path: Path, rules: Drift) -> None:
    bars = make_bars(120)
    right = 0.35 + 0.3 * ups(bars)
    good = judge(tmp_path / "good", bars, right, manifest(), rules)
    bad = judge(tmp_path / "bad", bars, 1 - right, manifest(), rules)
    assert good.verdict is not None
    assert bad.verdict is not None
    assert (good.verdict.rows, good.verdict.hit_rate, good.verdict.degraded) == (119, 1.0, False)
    assert (bad.verdict.hit_rate, bad.verdict.degraded) == (0.0, True)
    assert "performance" in bad.verdict.signals
    assert bad.to_dict()["judged"] is True


def test_outcomes_that_are_not_known_yet_are_left_out(tmp_path: Path, rules: Drift) -> None:
    bars = make_bars(90)
    live = judge(tmp_path, bars, np.full(90, 0.6), manifest(horizon=5), rules)
    assert live.verdict is not None
    assert live.verdict.joined == 85
    assert live.verdict.rows == 17
    assert "17 independent outcomes, 30 are needed" in live.verdict.reasons[0]


def test_labels_that_span_a_gap_are_left_out(tmp_path: Path, rules: Drift) -> None:
    bars = make_bars(100).drop(make_bars(100).index[51])
    whole = judge(tmp_path / "a", bars, np.full(99, 0.6), manifest(horizon=5), rules)
    gappy = judge(tmp_path / "b", bars, np.full(99, 0.6), manifest(horizon=5, hours=WEEKDAYS), rules)
    assert whole.verdict is not None
    assert gappy.verdict is not None
    assert (whole.verdict.joined, gappy.verdict.joined) == (94, 89)


def test_a_log_without_outcomes_says_so(tmp_path: Path, rules: Drift) -> None:
    live = judge(tmp_path, make_bars(4), np.full(4, 0.6), manifest(horizon=5), rules)
    assert live.verdict is None
    assert live.to_dict()["judged"] is False
    assert "not judged" in live.reason

"""Live performance comes from the log alone: its bars give the labels of its own predictions."""

from pathlib import Path
from typing import Any

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


def manifest(horizon: int = 1, hours: MarketHours | None = None, **label: Any) -> Manifest:
    return Manifest(
        1, "m-1d", "m", "1d", "2010-01-01T21:00:00+00:00", {}, [FeatureDefinition("a", "close")], 1, 2,
        ["down", "up"], ["logistic"], Thresholds(0.6, 0.55, 0.45, 0.4),
        {"kind": "fixed_horizon", "horizon": horizon, **label}, {}, "hash", "hash", True, [], hours,
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


BARRIERS: dict[str, Any] = {
    "kind": "triple_barrier", "take_profit": 1.2, "stop_loss": 1.2, "volatility_span": 10, "touch": "close",
}  # fmt: skip


def test_three_classes_are_judged_with_flat_as_half(tmp_path: Path, rules: Drift) -> None:
    bars, about = make_bars(300), manifest(horizon=3, classes=3, **BARRIERS)
    number = make_labels(bars, horizon=3, classes=3, **BARRIERS)["label"].reindex(bars.index)
    assert set(number.dropna()) == {0.0, 1.0, 2.0}
    right = 0.3 + 0.2 * number.fillna(1.0).to_numpy()
    good = judge(tmp_path / "good", bars, right, about, rules)
    bad = judge(tmp_path / "bad", bars, 1 - right, about, rules)
    assert good.verdict is not None
    assert bad.verdict is not None
    looked_at = number.iloc[-250:].dropna()
    assert good.verdict.joined == len(looked_at)
    assert (good.verdict.degraded, bad.verdict.degraded) == (False, True)
    assert good.verdict.hit_rate + bad.verdict.hit_rate == pytest.approx(1.0)
    assert 0.5 < good.verdict.hit_rate < 1.0


def test_two_classes_by_barriers_are_judged_by_the_return(tmp_path: Path, rules: Drift) -> None:
    bars, about = make_bars(300), manifest(horizon=3, **BARRIERS)
    up = make_labels(bars, horizon=3, **BARRIERS)["label"].reindex(bars.index).fillna(1.0).to_numpy()
    live = judge(tmp_path, bars, 0.35 + 0.3 * up, about, rules)
    assert live.verdict is not None
    assert live.verdict.hit_rate == 1.0


@pytest.mark.parametrize("label", [{}, BARRIERS])
def test_a_meta_model_is_judged_by_its_bets_alone(
    tmp_path: Path, rules: Drift, label: dict[str, Any]
) -> None:
    """Shorts that fall and longs that rise are right; rows at 0.5 claim nothing, whatever became of them."""
    bars, about = make_bars(300), manifest(horizon=1, primary="zscore(close, 20)", **label)
    side = np.random.default_rng(6).choice([-1.0, 0.0, 1.0], 300)
    plain = {name: value for name, value in about.label.items() if name != "primary"}
    labels = make_labels(bars, **plain, side=side)
    claim = labels["label"].reindex(bars.index).fillna(1.0).to_numpy()
    trusting = 0.5 + 0.3 * side * claim  # bets exactly where the side turns out right
    doubting = 0.5 + 0.3 * side * (1 - claim)
    good = judge(tmp_path / "good", bars, trusting, about, rules)
    bad = judge(tmp_path / "bad", bars, doubting, about, rules)
    assert good.verdict is not None
    assert bad.verdict is not None
    assert good.verdict.joined == int(labels["label"].sum())
    assert good.verdict.joined + bad.verdict.joined == int((labels["side"] != 0).sum())
    assert (good.verdict.hit_rate, bad.verdict.hit_rate) == (1.0, 0.0)
    assert good.verdict.expected_hit_rate == pytest.approx(0.8)
    assert (good.verdict.degraded, bad.verdict.degraded) == (False, True)


def test_a_meta_model_that_is_as_right_as_it_says_is_not_accused(tmp_path: Path, rules: Drift) -> None:
    accused = 0
    for seed in range(8):
        rng, bars = np.random.default_rng(seed), make_bars(251, seed)
        right_side = 2.0 * ups(bars) - 1.0
        chance = rng.uniform(0.52, 0.8, 251)
        side = np.where(rng.random(251) < chance, right_side, -right_side)
        probability = np.where(rng.random(251) < 0.6, 0.5 + side * (chance - 0.5), 0.5)
        live = judge(tmp_path / str(seed), bars, probability, manifest(primary="close"), rules)
        assert live.verdict is not None
        assert live.verdict.rows < 190
        accused += live.verdict.degraded
    assert accused <= 1


def test_a_meta_model_without_bets_is_not_judged(tmp_path: Path, rules: Drift) -> None:
    live = judge(tmp_path, make_bars(60), np.full(60, 0.5), manifest(primary="close"), rules)
    assert live.verdict is None
    assert "not judged: the model bet on its primary signal in 0 of 60 predictions" in live.reason

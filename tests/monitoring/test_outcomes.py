from itertools import product

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from monitoring.outcomes import (
    PerformanceRules,
    apart,
    hit_test,
    join,
    log_loss_test,
    misses_drift,
    performance,
    values_drift,
)


def outcomes(p: np.ndarray, y: np.ndarray, horizon: int = 1) -> pd.DataFrame:
    index = pd.date_range("2015-01-05 21:00", periods=len(p), freq="D", tz="UTC", name="timestamp")
    return pd.DataFrame({"probability": p, "label": y, "t1": index + pd.Timedelta(days=horizon)}, index=index)


def draw(n: int, seed: int, spread: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(0.52, spread, n), 0.05, 0.95)
    return p, (rng.random(n) < p).astype(float)


def test_join_takes_only_outcomes_that_are_known() -> None:
    rows = outcomes(np.full(10, 0.6), np.ones(10), horizon=3)
    joined = join(rows[["probability"]], rows[["label", "t1"]], until=rows.index[6])
    assert list(joined.index) == list(rows.index[:4])


def test_join_names_the_missing_column() -> None:
    rows = outcomes(np.full(3, 0.6), np.ones(3))
    with pytest.raises(DataError, match="labels lack \\['t1'\\]"):
        join(rows, rows[["label"]], until=rows.index[-1])


def test_overlapping_label_spans_are_thinned() -> None:
    rows = outcomes(np.full(10, 0.6), np.ones(10), horizon=4)
    assert list(apart(rows).index) == list(rows.index[[0, 4, 8]])
    assert len(apart(outcomes(np.full(10, 0.6), np.ones(10)))) == 10


def test_hit_test_is_exact() -> None:
    p, y = np.array([0.7, 0.4, 0.9, 0.55]), np.array([1.0, 1.0, 1.0, 0.0])
    chance, hits = np.maximum(p, 1 - p), 2
    exact = sum(
        float(np.prod(np.where(np.array(h) == 1, chance, 1 - chance)))
        for h in product([0, 1], repeat=4)
        if sum(h) <= hits
    )
    assert hit_test(p, y) == pytest.approx(exact, rel=1e-12)
    assert hit_test(np.full(5, 0.5), np.ones(5)) == 1.0


def test_log_loss_test_says_nothing_about_a_coin() -> None:
    assert log_loss_test(np.full(50, 0.5), np.ones(50)) == 1.0


def test_a_calibrated_model_is_rarely_accused() -> None:
    accused = [performance(outcomes(*draw(120, seed))).degraded for seed in range(200)]
    assert np.mean(accused) <= 0.08


def test_a_model_that_turned_wrong_is_found() -> None:
    found = 0
    for seed in range(20):
        p, y = draw(200, seed)
        verdict = performance(outcomes(p, np.concatenate([y[:100], 1 - y[100:]])))
        found += verdict.degraded
        assert (verdict.degradation > 0) == verdict.degraded
    assert found >= 16


def draw_of_three(n: int, seed: int, flat: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals P(up) + P(flat) / 2 of class probabilities [n, 3], outcomes 0, .5, 1, and P(flat)."""
    rng = np.random.default_rng(seed)
    classes = rng.dirichlet(np.array([1 - flat, 2 * flat, 1 - flat]) * 6, n)
    classes = np.clip(classes, 0.02, None) / np.clip(classes, 0.02, None).sum(axis=1, keepdims=True)
    number = (rng.random(n)[:, None] > np.cumsum(classes, axis=1)).sum(axis=1)
    return classes[:, 2] + classes[:, 1] / 2, number / 2.0, classes[:, 1]


def test_an_outcome_that_went_neither_way_is_half_a_hit() -> None:
    p, y = np.array([0.7, 0.4, 0.9, 0.55]), np.array([0.5, 0.5, 1.0, 0.0])
    assert performance(outcomes(p, y)).hit_rate == (0.5 + 0.5 + 1.0 + 0.0) / 4
    assert hit_test(p, y) == hit_test(p, np.array([1.0, 1.0, 1.0, 0.0]))
    assert hit_test(p[:3], y[:3]) == hit_test(p[:3], np.array([1.0, 1.0, 1.0]))


def test_what_a_model_of_three_classes_promises_is_what_comes() -> None:
    """Over many outcomes hit rate and log-loss are the expected ones, with the variance that is stated."""
    p, y, flat = draw_of_three(200_000, 3, flat=0.4)
    assert 0.2 < np.mean(y == 0.5) < 0.6
    assert np.mean(y - p) == pytest.approx(0.0, abs=0.003)
    assert np.mean((y - p) ** 2) == pytest.approx(np.mean(p * (1 - p) - flat / 4), abs=0.001)
    promised, came = np.maximum(p, 1 - p).mean(), np.where(p >= 0.5, y, 1 - y).mean()
    assert came == pytest.approx(promised, abs=0.003)
    entropy, loss = (-np.mean(q * np.log(p) + (1 - q) * np.log(1 - p)) for q in (p, y))
    assert loss == pytest.approx(entropy, abs=0.003)


@pytest.mark.parametrize("flat", [0.05, 0.3, 0.6])
def test_a_calibrated_model_of_three_classes_is_rarely_accused(flat: float) -> None:
    found = [performance(outcomes(*draw_of_three(120, seed, flat)[:2])) for seed in range(150)]
    assert np.mean([verdict.degraded for verdict in found]) <= 0.05
    assert np.mean([bool(verdict.concept_drift_at) for verdict in found]) <= 0.05


def test_a_model_of_three_classes_that_turned_wrong_is_found() -> None:
    found = 0
    for seed in range(20):
        p, y, _ = draw_of_three(250, seed, flat=0.3)
        found += performance(outcomes(p, np.concatenate([y[:100], 1 - y[100:]]))).degraded
    assert found >= 16


def test_thirty_trades_fifteen_percent_worse_is_not_evidence() -> None:
    p = np.full(30, 0.55)
    y = np.array([1.0] * 14 + [0.0] * 16)
    verdict = performance(outcomes(p, y))
    assert verdict.hit_rate < 0.85 * verdict.expected_hit_rate
    assert not verdict.degraded


def test_too_few_outcomes_claim_nothing() -> None:
    verdict = performance(outcomes(np.full(29, 0.9), np.zeros(29)))
    assert verdict.signals == ()
    assert "30 are needed" in verdict.reasons[0]
    assert performance(outcomes(np.full(29, 0.9), np.zeros(29)), PerformanceRules(min_rows=20)).degraded


def test_no_outcome_and_impossible_probability_are_errors() -> None:
    with pytest.raises(DataError, match="horizon"):
        performance(outcomes(np.empty(0), np.empty(0)))
    with pytest.raises(DataError, match="damaged"):
        performance(outcomes(np.array([1.2]), np.array([1.0])))


def test_hddm_a_finds_a_rise_of_misses_and_not_a_fall() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.random(400) < 0.3, rng.random(400) < 0.7
    found = misses_drift([*good, *bad])
    assert found
    assert min(found) >= 400
    assert misses_drift([*bad, *good]) == []


def test_half_misses_are_no_rise_and_raise_none() -> None:
    halves = [0.5] * 400
    assert misses_drift(halves) == []
    assert min(misses_drift([*halves, *[1.0] * 400])) >= 400


def test_adwin_finds_a_rise_and_not_a_fall() -> None:
    rng = np.random.default_rng(2)
    low, high = rng.normal(0, 0.2, 500), rng.normal(1, 0.2, 500)
    assert min(values_drift([*low, *high])) >= 500
    assert values_drift([*high, *low]) == []


def test_concept_drift_is_a_signal_with_its_time() -> None:
    p, y = draw(800, 7, spread=0.25)
    verdict = performance(outcomes(p, np.concatenate([y[:400], 1 - y[400:]])))
    assert verdict.signals == ("performance", "concept")
    assert pd.Timestamp(verdict.concept_drift_at[0]) >= pd.Timestamp("2016-02-01", tz="UTC")

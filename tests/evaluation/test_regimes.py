import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from evaluation import regimes
from evaluation.performance import sharpe


def market(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.exp(np.cumsum(rng.normal(0, 0.02, n))) * 0.01
    times = np.datetime64("2001-01-01") + np.arange(n)
    return 100 * np.exp(np.cumsum(rng.normal(0, 1, n) * scale)), times


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 900))
def test_labels_do_not_know_the_future(seed, cut):
    close, times = market(seed, 900)
    whole = regimes.label(close, times, window=20)
    known = regimes.label(close[:cut], times[:cut], window=20)
    for kind, labels in known.items():
        assert labels.tolist() == whole[kind][:cut].tolist()


def test_labels_against_pandas():
    close, times = market(3, 700)
    found = regimes.label(close, times, window=30)
    prices = pd.Series(close)
    squares = np.log(prices).diff() ** 2
    volatility = squares.rolling(30).mean() ** 0.5
    trend = np.where(prices > prices.shift(30), "up", "down")
    assert found["trend"][30:].tolist() == trend[30:].tolist()
    assert set(found["trend"][:30]) == {""}
    assert found["year"].tolist() == [str(day)[:4] for day in times]
    # the bounds are at most a twentieth of the history old
    for at in (60, 200, 450, 699):
        named = found["volatility"][at]
        oldest = int(at / 1.05) - 1
        allowed = set()
        for until in range(max(oldest, 60), at + 1):
            low, high = np.quantile(volatility[30:until], [1 / 3, 2 / 3])
            value = volatility[at]
            allowed.add("low" if value <= low else "middle" if value <= high else "high")
        assert named in allowed
    assert set(found["volatility"][:60]) == {""}
    assert set(found["volatility"][60:]) == {"low", "middle", "high"}


def test_a_history_shorter_than_the_window():
    close, times = market(0, 10)
    found = regimes.label(close, times, window=20)
    assert [set(found[kind]) for kind in ("volatility", "trend")] == [{""}, {""}]


def test_breakdown_against_loops():
    rng = np.random.default_rng(2)
    rows = np.array(["high", "low", "", "low", "high", "middle"] * 20)
    bars = np.array(["", "high", "low"] * 30)
    gain, hit, returns = rng.normal(size=120), rng.uniform(size=120) > 0.4, rng.normal(0, 0.01, 90)
    parts = regimes.breakdown(rows, bars, gain, hit, returns, 252)
    assert [part["label"] for part in parts] == ["low", "middle", "high"]
    for part in parts:
        chosen = [i for i in range(120) if rows[i] == part["label"]]
        earned = [returns[i] for i in range(90) if bars[i] == part["label"]]
        assert part["rows"] == len(chosen)
        assert part["log_loss_gain"] == pytest.approx(np.mean([gain[i] for i in chosen]))
        assert part["hit_rate"] == pytest.approx(np.mean([hit[i] for i in chosen]))
        assert part["bars"] == len(earned)
        if earned:
            assert part["sharpe"] == pytest.approx(sharpe(earned, 252))
    assert np.isnan(parts[1]["sharpe"])


def test_years_stay_in_order():
    rows = np.array(["2003", "2001", "2002"])
    parts = regimes.breakdown(rows, rows, np.ones(3), np.ones(3, dtype=bool), np.zeros(3), 252)
    assert [part["label"] for part in parts] == ["2001", "2002", "2003"]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([0.01, -0.002], "All of the skill sits in trend a (100 of 300 rows)"),
        ([0.01, 0.0], "0.00000 worse"),
        ([0.01, 0.001], None),
        ([-0.01, 0.001], None),
        ([0.01], None),
    ],
)
def test_concentration(gains, words):
    parts = [
        {"label": label, "rows": rows, "log_loss_gain": gain}
        for label, rows, gain in zip("ab", (100, 200), gains, strict=False)
    ]
    warning = regimes.concentration("trend", parts)
    assert warning is None if words is None else words in (warning or "")


def test_refusals():
    with pytest.raises(DataError, match="one close > 0 per bar"):
        regimes.label([1.0, 2.0], np.arange(3).astype("datetime64[D]"))
    with pytest.raises(DataError, match="one close > 0 per bar"):
        regimes.label([1.0, 0.0], np.arange(2).astype("datetime64[D]"))

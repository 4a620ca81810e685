"""Labels against hand-worked vectors."""

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigurationError, DataError
from models.labels import make_labels, triple_barrier, volatility

CLOSE = [100.0, 101.0, 99.0, 102.5, 103.0, 97.0, 96.0, 98.0, 99.0, 100.0]


def make_bars(close: list[float], **columns: list[float]) -> pd.DataFrame:
    index = pd.date_range("2020-01-01 21:00", periods=len(close), freq="D", tz="UTC", name="timestamp")
    flat = dict.fromkeys(("open", "high", "low", "close"), close)
    return pd.DataFrame({**flat, "volume": [1.0] * len(close), **columns}, index=index)


def test_triple_barrier_reproduces_the_published_vector() -> None:
    bars = make_bars(CLOSE)
    labels = triple_barrier(bars, np.full(10, 0.02), 3, 1.0, 1.0)
    ends = bars.index.get_indexer(labels["t1"])
    assert ends[:6].tolist() == [3, 4, 3, 5, 5, 8]
    assert labels["barrier"].tolist()[:6] == [1, 0, 1, -1, -1, 1]
    expected = [0.025, 0.019802, 0.035354, -0.053659, -0.058252, 0.020619]
    assert labels["ret"].tolist()[:6] == pytest.approx(expected, abs=5e-7)
    assert labels["label"].tolist()[:6] == [1, 1, 1, 0, 0, 1]


def test_labels_whose_window_passes_the_end_are_dropped() -> None:
    bars = make_bars(CLOSE)
    assert len(triple_barrier(bars, np.full(10, 0.02), 3, 1.0, 1.0)) == 7
    assert make_labels(bars, horizon=3).index.equals(bars.index[:7])


def test_fixed_horizon_return_label_and_end() -> None:
    bars = make_bars([100.0, 101.0, 99.0, 99.0])
    labels = make_labels(bars, horizon=1)
    assert labels["ret"].tolist() == pytest.approx([0.01, -2 / 101, 0.0])
    assert labels["label"].tolist() == [1.0, 0.0, 0.0]
    assert labels["t1"].tolist() == bars.index[1:].tolist()


def test_a_bar_that_touches_both_barriers_is_the_stop() -> None:
    bars = make_bars([100.0, 100.0], high=[100.0, 103.0], low=[100.0, 97.0])
    labels = triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="range")
    assert labels[["barrier", "ret", "label"]].to_numpy().tolist() == [[-1.0, -0.02, 0.0]]


def test_a_bar_that_opens_beyond_a_barrier_returns_its_open() -> None:
    bars = make_bars([100.0, 105.0], open=[100.0, 104.0], high=[100.0, 106.0], low=[100.0, 103.0])
    assert triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="range")["ret"].item() == pytest.approx(
        0.04
    )


def test_closes_alone_do_not_see_a_high() -> None:
    bars = make_bars([100.0, 100.0], high=[100.0, 103.0], low=[100.0, 97.0])
    assert triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="close")["barrier"].item() == 0.0


def test_volatility_uses_nothing_after_its_bar() -> None:
    close = make_bars(CLOSE)["close"]
    changed = close.copy()
    changed.iloc[6:] *= 3.0
    np.testing.assert_array_equal(volatility(close, 3)[:6], volatility(changed, 3)[:6])


def test_bars_without_volatility_get_no_label() -> None:
    bars = make_bars(CLOSE)
    labels = make_labels(bars, kind="triple_barrier", horizon=2, volatility_span=3)
    assert labels.index[0] == bars.index[3]


def test_all_faults_of_the_parameters_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_labels(make_bars(CLOSE), horizon=0, stop_loss=-1.0, touch="wick")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3


def test_too_few_bars_name_the_number_needed() -> None:
    with pytest.raises(DataError, match="2 bars, 6 are needed"):
        make_labels(make_bars([1.0, 2.0]), horizon=5)

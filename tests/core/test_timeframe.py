import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError, DataError
from core.timeframe import Timeframe, infer


@pytest.mark.parametrize("text", ["1s", "1m", "5m", "1h", "4h", "1d", "1w", "90s"])
def test_text_round_trip(text: str) -> None:
    assert str(Timeframe.parse(text)) == text


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "1", "1D", "1.5h", "1d "])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="timeframe"):
        Timeframe.parse(text)


@given(st.sampled_from(["1m", "5m", "15m", "1h", "4h", "1d"]), st.integers(2, 50), st.integers(0, 2**31))
def test_regular_bars_are_recognised_in_any_order(text: str, bars: int, seed: int) -> None:
    times = 1_500_000_000 + np.arange(bars) * Timeframe.parse(text).seconds
    assert str(infer(np.random.default_rng(seed).permutation(times))) == text


def test_daily_bars_with_weekends_and_daylight_saving() -> None:
    weekdays = np.arange(np.datetime64("2007-01-01"), np.datetime64("2008-01-01"))
    weekdays = weekdays[np.is_busday(weekdays)].astype("datetime64[s]").astype(np.int64)
    weekdays[60:180] -= 3600
    assert str(infer(weekdays)) == "1d"


def test_one_bar_has_no_timeframe() -> None:
    with pytest.raises(DataError, match="two different times"):
        infer(np.array([1, 1]))

import numpy as np
import pandas as pd
import pytest

import features
from core.errors import ConfigurationError, DataError
from features.batch import epoch_seconds


def test_one_column_per_feature_on_the_same_index(sp500):
    frame = features.build(sp500)
    assert list(frame.columns) == features.names()
    assert frame.index.equals(sp500.index)
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_fewer_bars_than_the_warmup_give_nan(sp500):
    frame = features.build(sp500.iloc[:5], {"m": "mean(close, 6)", "r": "close / open"})
    assert frame["m"].isna().all()
    assert frame["r"].notna().all()
    assert features.build(sp500.iloc[:0]).shape == (0, len(features.names()))


def test_an_inconsistent_bar_is_named(sp500):
    bars = sp500.iloc[:10].copy()
    bars.iloc[3, bars.columns.get_loc("high")] = bars["low"].iloc[3] * 0.5
    with pytest.raises(DataError, match="row 3 at"):
        features.build(bars)


def test_an_empty_or_bare_definition_is_refused(sp500):
    with pytest.raises(ConfigurationError, match="at least one"):
        features.build(sp500, {})
    with pytest.raises(ConfigurationError, match="apply an operator"):
        features.build(sp500, {"x": "close"})
    with pytest.raises(ConfigurationError, match="drop one"):
        features.build(sp500, {"x": "close + 1", "y": "close + 1.0"})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_whole_seconds_are_exact_in_every_unit(unit):
    index = pd.date_range("1969-12-31 23:59:58", periods=5, freq="s", tz="UTC").as_unit(unit)
    assert epoch_seconds(index).tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]

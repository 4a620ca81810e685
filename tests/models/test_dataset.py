"""The training matrix and its windows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from models.dataset import Dataset, windows


def make_frames(n: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    index = pd.date_range("2020-01-01", periods=n, freq="D", tz="UTC", name="timestamp")
    features = pd.DataFrame({"a": np.arange(n) / 3.0, "b": np.nan}, index=index)
    labels = pd.DataFrame({"label": np.arange(n) % 2.0, "t1": index + pd.Timedelta(days=2)}, index=index)
    return features, labels.iloc[2 : n - 2]


def test_frames_are_joined_on_time_and_cast_to_float32() -> None:
    features, labels = make_frames()
    data = Dataset.from_frames(features, labels)
    assert data.x.dtype == np.float32
    assert data.x[0, 0] == np.float32(2 / 3)
    assert data.names == ("a", "b")
    assert data.times[0] == labels.index[0].value
    assert data.t1[0] == (labels.index[0] + pd.Timedelta(days=2)).value


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_nanoseconds_whatever_the_index_counts(unit: str) -> None:
    features, labels = make_frames()
    features.index, labels.index = features.index.as_unit(unit), labels.index.as_unit(unit)
    labels["t1"] = labels["t1"].astype(f"datetime64[{unit}, UTC]")
    data = Dataset.from_frames(features, labels)
    assert (data.t1 - data.times == 2 * 86_400 * 10**9).all()


def test_a_gap_between_labels_is_named() -> None:
    features, labels = make_frames()
    with pytest.raises(DataError, match="not consecutive after 2020-01-04"):
        Dataset.from_frames(features, labels.drop(labels.index[2]))


def test_an_infinite_feature_is_refused() -> None:
    features, labels = make_frames()
    features.iloc[5, 1] = 1e39
    with pytest.raises(DataError, match="row 3 has an infinite feature"):
        Dataset.from_frames(features, labels)


def test_shared_copy_is_equal_and_read_only(tmp_path: Path) -> None:
    data = Dataset.from_frames(*make_frames())
    data.save(tmp_path)
    shared = Dataset.open_shared(tmp_path)
    np.testing.assert_array_equal(shared.x, data.x)
    assert shared.names == data.names
    assert not shared.x.flags.writeable


def test_windows_end_at_their_row_and_lack_rows_before_the_first() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    got = windows(x, np.array([0, 4, 2]), 3)
    assert got.shape == (3, 3, 2)
    assert np.isnan(got[0, :2]).all()
    np.testing.assert_array_equal(got[0, 2], x[0])
    np.testing.assert_array_equal(got[1], x[2:5])
    np.testing.assert_array_equal(got[2], x[0:3])


def test_consecutive_windows_are_a_view() -> None:
    x = np.zeros((50, 3), dtype=np.float32)
    assert np.shares_memory(windows(x, np.arange(10, 50), 8), x)

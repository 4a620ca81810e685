import numpy as np
import pandas as pd
import pytest

from core.bars import COLUMNS, check_bars
from core.errors import DataError


def make_bars(rows: int = 5) -> pd.DataFrame:
    index = pd.date_range("2020-01-01", periods=rows, freq="D", tz="UTC", name="timestamp")
    return pd.DataFrame({name: np.full(rows, 10.0) for name in COLUMNS}, index=index)


def test_canonical_bars_pass() -> None:
    check_bars(make_bars())


def test_each_departure_is_refused_with_its_place() -> None:
    bars = make_bars()
    cases = {
        "UTC DatetimeIndex": bars.tz_localize(None),
        "named 'timestamp'": bars.rename_axis("time"),
        "in this order": bars[["close", "open", "high", "low", "volume"]],
        "volume is int64": bars.astype({"volume": np.int64}),
        "row 3": bars.iloc[[0, 1, 2, 2, 4]],
        "row 1": bars.iloc[[1, 0, 2]],
    }
    for message, frame in cases.items():
        with pytest.raises(DataError, match=message):
            check_bars(frame)


@pytest.mark.parametrize(
    ("column", "value"), [("close", np.nan), ("low", 0.0), ("high", np.inf), ("volume", -1.0)]
)
def test_values_are_refused_with_their_row(column: str, value: float) -> None:
    bars = make_bars()
    bars.iloc[2, list(COLUMNS).index(column)] = value
    with pytest.raises(DataError, match="row 2"):
        check_bars(bars)

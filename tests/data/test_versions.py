"""The hash names the values and nothing else."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from data.versions import bars_hash


def test_known_value() -> None:
    index = pd.DatetimeIndex(["2024-01-02 21:00"], tz="UTC", name="timestamp")
    bars = pd.DataFrame(
        {"open": [1.0], "high": [2.0], "low": [0.5], "close": [1.5], "volume": [10.0]}, index=index
    )
    assert bars_hash(bars) == "271a2eda0126318482cb1b701cb65bff981aecd44c04b252c0db5e9b7a6a3491"


def test_layout_and_time_unit_do_not_matter(make_bars: Callable[..., pd.DataFrame]) -> None:
    bars = make_bars(20)
    other = pd.DataFrame(
        np.asfortranarray(bars.to_numpy()), index=bars.index.as_unit("us"), columns=bars.columns
    )
    assert bars_hash(bars) == bars_hash(other)


@given(row=st.integers(0, 19), column=st.integers(0, 4))
def test_one_bit_of_any_cell_changes_it(
    make_bars: Callable[..., pd.DataFrame], row: int, column: int
) -> None:
    bars, changed = make_bars(20), make_bars(20)
    changed.iloc[row, column] = np.nextafter(changed.iloc[row, column], np.inf)
    assert bars_hash(bars) != bars_hash(changed)


def test_times_and_rows_count(make_bars: Callable[..., pd.DataFrame]) -> None:
    bars = make_bars(20)
    assert bars_hash(bars) != bars_hash(bars.set_index(bars.index + pd.Timedelta(1)))
    assert len({bars_hash(bars[:n]) for n in range(20)}) == 20

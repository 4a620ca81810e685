"""Stored bars: exact, deterministic, self-checking."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ArtifactError, DataError
from core.files import directory_hashes
from core.timeframe import Timeframe
from data.parquet import bars_directory, read_bars, write_bars
from data.versions import bars_hash

Make = Callable[..., pd.DataFrame]
DAY, HOUR = Timeframe(86400), Timeframe(3600)


def test_round_trip_is_bit_identical(tmp_path: Path, sp500: pd.DataFrame) -> None:
    path = write_bars(tmp_path, sp500, "sp500", DAY)
    back = read_bars(tmp_path, "sp500", DAY)
    pd.testing.assert_frame_equal(back, sp500, check_exact=True)
    assert back.to_numpy().tobytes() == sp500.to_numpy().tobytes()
    assert sorted(p.name for p in path.iterdir()) == [f"{y}.parquet" for y in range(1999, 2019)]


def test_same_bars_same_bytes(tmp_path: Path, make_bars: Make) -> None:
    one = write_bars(tmp_path / "a", make_bars(500), "x", HOUR)
    two = write_bars(tmp_path / "b", make_bars(500), "x", HOUR)
    assert directory_hashes(one) == directory_hashes(two)


def test_writing_again_removes_years_that_are_gone(tmp_path: Path, make_bars: Make) -> None:
    write_bars(tmp_path, make_bars(48, start="2023-12-31 01:00"), "x", HOUR)
    write_bars(tmp_path, make_bars(10), "x", HOUR)
    assert len(read_bars(tmp_path, "x", HOUR)) == 10


@pytest.mark.parametrize("symbol", ["EUR/USD", "^GSPC", "BRK.B", "..", "BTC-USD", "ES=F", "a b"])
def test_any_symbol_stays_under_the_root(tmp_path: Path, make_bars: Make, symbol: str) -> None:
    path = write_bars(tmp_path, make_bars(5), symbol, HOUR)
    assert path.parent.parent == tmp_path
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(read_bars(tmp_path, symbol, HOUR)) == 5


def test_a_flipped_byte_never_gives_other_bars(tmp_path: Path, make_bars: Make) -> None:
    bars = make_bars(6)
    file = write_bars(tmp_path, bars, "x", HOUR) / "2024.parquet"
    sound = file.read_bytes()
    caught = 0
    for place in range(0, len(sound), 3):
        broken = bytearray(sound)
        broken[place] ^= 0x15
        file.write_bytes(bytes(broken))
        try:
            assert bars_hash(read_bars(tmp_path, "x", HOUR)) == bars_hash(bars)
        except ArtifactError:
            caught += 1
    assert caught > 0.7 * len(sound) / 3


def test_a_truncated_file_is_named(tmp_path: Path, make_bars: Make) -> None:
    file = write_bars(tmp_path, make_bars(40), "x", HOUR) / "2024.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"2024\.parquet is corrupt .*dvc checkout"):
        read_bars(tmp_path, "x", HOUR)


def test_a_file_of_another_series_is_refused(tmp_path: Path, make_bars: Make) -> None:
    write_bars(tmp_path, make_bars(40), "x", HOUR)
    bars_directory(tmp_path, "x", HOUR).parent.rename(tmp_path / "y")
    with pytest.raises(ArtifactError, match="says it holds"):
        read_bars(tmp_path, "y", HOUR)


def test_faults_on_the_way_in_and_out(tmp_path: Path, make_bars: Make) -> None:
    with pytest.raises(DataError, match="no stored bars of x 1h"):
        read_bars(tmp_path, "x", HOUR)
    with pytest.raises(DataError, match="at least one row"):
        write_bars(tmp_path, make_bars(5)[:0], "x", HOUR)
    with pytest.raises(DataError, match="strictly increasing"):
        write_bars(tmp_path, make_bars(5)[::-1], "x", HOUR)
    with pytest.raises(DataError, match="symbol ' ' is blank"):
        write_bars(tmp_path, make_bars(5), " ", HOUR)
    bad = make_bars(5)
    bad.iloc[2, 3] = np.nan
    with pytest.raises(DataError, match="must be finite"):
        write_bars(tmp_path, bad, "x", HOUR)

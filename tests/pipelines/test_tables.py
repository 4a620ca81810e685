"""Tables written frame by frame: equal to those written at once, whole or not at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.errors import ArtifactError
from pipelines.tables import read_table, write_blocks, write_table

ROOT = Path(__file__).resolve().parents[2]
ROWS = 1000


@pytest.fixture
def table() -> pd.DataFrame:
    index = pd.date_range("2020-01-01", periods=ROWS, freq="h", tz="UTC", name="timestamp")
    values = np.random.default_rng(0).normal(size=(ROWS, 3))
    values[:20, 1] = np.nan
    return pd.DataFrame(values, index=index, columns=list("abc"))


def parts(table: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    return (table.iloc[start : start + rows] for start in range(0, len(table), rows))


@pytest.mark.parametrize("rows", [1, 300, ROWS, 2 * ROWS])
def test_frames_become_one_table(rows: int, table: pd.DataFrame, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "table.parquet"
    write_blocks(target, parts(table, rows))
    pd.testing.assert_frame_equal(read_table(target), table, check_freq=False)
    assert pq.ParquetFile(target).num_row_groups == -(-ROWS // rows)
    assert os.listdir(target.parent) == ["table.parquet"]


def test_equal_tables_are_equal_bytes(table: pd.DataFrame, tmp_path: Path) -> None:
    write_table(tmp_path / "one", table)
    write_blocks(tmp_path / "other", [table.copy()])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_every_page_has_a_checksum(table: pd.DataFrame, tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    write_blocks(target, parts(table, 400))
    data = bytearray(target.read_bytes())
    data[len(data) // 3] ^= 1
    target.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"table\.parquet is damaged"):
        read_table(target)


def test_a_frame_that_fails_leaves_the_old_table(table: pd.DataFrame, tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    write_table(target, table)
    before = target.read_bytes()

    def failing() -> Iterator[pd.DataFrame]:
        yield table.iloc[:10]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_blocks(target, failing())
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["table.parquet"]


def test_a_kill_between_two_frames_leaves_the_old_table(table: pd.DataFrame, tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    write_table(target, table)
    before = target.read_bytes()
    killed = """
import os, signal, sys
from pathlib import Path
from pipelines.tables import read_table, write_blocks

def frames(table):
    yield table.iloc[:600] * 2
    yield table.iloc[600:] * 2
    os.kill(os.getpid(), signal.SIGKILL)

write_blocks(Path(sys.argv[1]), frames(read_table(Path(sys.argv[1]))))
"""
    done = subprocess.run([sys.executable, "-c", killed, str(target)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert target.read_bytes() == before

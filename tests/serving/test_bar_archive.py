"""The archive of bars rolls, is trimmed only where checkpoints allow it, and reads back bit for bit."""

from pathlib import Path

import pytest

from serving.bar import Bar
from serving.bar_archive import BarArchive
from serving.checkpoints import Position, read_position, write_position


def bar(i: int, symbol: str = "BTC/USD") -> Bar:
    return Bar(symbol, 1e9 + 60.0 * i, 1.0 + i / 3, 9e9, 1 / 3, 2.0, 0.1 * i)


def fill(directory: Path, count: int, **options: int) -> BarArchive:
    archive = BarArchive(directory, **options)
    for i in range(count):
        archive.append([bar(i)])
    return archive


def test_bars_come_back_as_they_were_across_files_and_restarts(tmp_path: Path) -> None:
    first = fill(tmp_path, 20, roll_bytes=400)
    first.close()
    second = BarArchive(tmp_path)
    second.append([bar(20), bar(21, "other")])
    second.close()
    bars, faults = BarArchive(tmp_path).read()
    assert bars == [*(bar(i) for i in range(21)), bar(21, "other")]
    assert faults == []
    assert len(list(tmp_path.glob("bars-*.wal"))) > 3


def test_a_torn_tail_is_no_fault_and_damage_is(tmp_path: Path) -> None:
    fill(tmp_path, 10).close()
    (file,) = tmp_path.glob("bars-*.wal")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert BarArchive(tmp_path).read() == ([bar(i) for i in range(9)], [])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    file.write_bytes(flipped)
    bars, faults = BarArchive(tmp_path).read()
    assert bars == [bar(i) for i in range(5)]
    assert file.name in faults[0]


@pytest.mark.parametrize(("needed", "left"), [(1, 10), (5, 6), (99, 2)])
def test_trimming_keeps_what_checkpoints_need_and_a_size(tmp_path: Path, needed: int, left: int) -> None:
    archive = fill(tmp_path, 20, roll_bytes=130, keep_bytes=400)
    archive.close()
    assert len(list(tmp_path.glob("bars-*.wal"))) == 10
    archive.trim(needed)
    assert len(list(tmp_path.glob("bars-*.wal"))) == left


def test_the_position_remembers_the_one_before(tmp_path: Path) -> None:
    assert read_position(tmp_path) == Position(0, 0)
    write_position(tmp_path, Position().advance(4).advance(4).advance(7))
    assert read_position(tmp_path) == Position(7, 4)

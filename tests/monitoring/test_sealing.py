"""Sealing may be killed, raced and repeated: each row is there once, in order."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from monitoring.journal import Journal
from monitoring.log_files import journal_file
from monitoring.prediction_table import Prediction, read
from monitoring.retention import Retention
from monitoring.sealing import LOCK, seal

NAMES = ["a", "b"]
ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400.0


def _row(i: int, names: list[str] = NAMES, logged_at: float | None = None) -> Prediction:
    vector = np.full(len(names), float(i)).tobytes()
    at = float(i) if logged_at is None else logged_at
    return Prediction(
        "x", float(i), at, "m-1d", "1", "hash", 0.5, 0.1, "hold", {"a": 0.5},
        vector, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2,
    )  # fmt: skip


def _journal(directory: Path, number: int, rows: list[Prediction], names: list[str] = NAMES) -> Path:
    journal = Journal(journal_file(directory, number).path)
    journal.append(msgspec.msgpack.encode(names), *map(msgspec.msgpack.encode, rows))
    journal.close()
    return journal.path


def _journals(directory: Path, sizes: list[int], first: int = 1) -> None:
    start = 0
    for number, size in enumerate(sizes, first):
        _journal(directory, number, [_row(start + i) for i in range(size)])
        start += size


def _seal(directory: Path, rows: int = 10, rules: Retention | None = None, below: int = 1000) -> list[str]:
    seal(directory, below, rows, rules or Retention())
    return _names(directory)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != LOCK)


def _bars(directory: Path) -> list[float]:
    return [moment.timestamp() for moment in read(directory)["bar_time"].to_pylist()]


def test_small_journals_join_until_a_segment_is_full(tmp_path: Path) -> None:
    _journals(tmp_path, [3, 0, 4, 3, 1, 12, 2])
    assert _seal(tmp_path) == [
        "segment-00000001-00000004.parquet",
        "segment-00000005.parquet",
        "segment-00000006.parquet",
        "segment-00000007.parquet",
    ]
    assert _bars(tmp_path) == list(range(25))
    _journal(tmp_path, 8, [_row(25)])
    assert _seal(tmp_path)[-1] == "segment-00000007-00000008.parquet"
    assert _bars(tmp_path) == list(range(26))


def test_the_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    _journals(tmp_path, [1, 1, 1])
    assert _seal(tmp_path, below=3) == ["journal-00000003.wal", "segment-00000001-00000002.parquet"]


def test_other_features_begin_another_segment(tmp_path: Path) -> None:
    _journal(tmp_path, 1, [_row(0)])
    _journal(tmp_path, 2, [_row(1, ["a", "c"])], ["a", "c"])
    _journal(tmp_path, 3, [_row(2, ["a", "c"])], ["a", "c"])
    assert _seal(tmp_path) == ["segment-00000001.parquet", "segment-00000002-00000003.parquet"]
    assert _bars(tmp_path) == [0, 1, 2]


def test_what_is_joined_spans_a_tenth_of_the_age_that_is_kept(tmp_path: Path) -> None:
    for number in range(1, 7):
        _journal(tmp_path, number, [_row(number, logged_at=number * DAY)])
    names = _seal(tmp_path, rules=Retention(days=25.0))
    assert names == [f"segment-0000000{i}-0000000{i + 2}.parquet" for i in (1, 4)]


def test_what_is_joined_is_a_part_of_the_size_that_is_kept(tmp_path: Path) -> None:
    rng, names = np.random.default_rng(5), [f"f{i}" for i in range(50)]
    for number in range(1, 25):
        vectors = [rng.normal(size=50).tobytes() for _ in range(5)]
        rows = [msgspec.structs.replace(_row(number, names), features=vector) for vector in vectors]
        _journal(tmp_path, number, rows, names)
    rules = Retention(megabytes=8 * 0.02)
    sealed = _seal(tmp_path, 10_000, rules)
    assert 1 < len(sealed) < 12
    assert all((tmp_path / name).stat().st_size < rules.segment_bytes for name in sealed)
    assert _bars(tmp_path) == [i for i in range(1, 25) for _ in range(5)]


def test_a_damaged_segment_is_not_joined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _journals(tmp_path, [2])
    _seal(tmp_path)
    segment = tmp_path / "segment-00000001.parquet"
    segment.write_bytes(segment.read_bytes()[:-8])
    _journal(tmp_path, 2, [_row(2)])
    assert _seal(tmp_path) == ["segment-00000001.parquet", "segment-00000002.parquet"]
    assert "segment_damaged" in caplog.text


class Crash(BaseException):
    """Not an error that code could handle."""


def _crashing(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The `at`-th change of the directory does not come about, nor anything after it."""
    left = iter(range(at))

    def until(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*given: Any, **options: Any) -> Any:
            if next(left, None) is None:
                raise Crash
            return change(*given, **options)

        return changed

    for home, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "rename")):
        monkeypatch.setattr(home, name, until(getattr(home, name)))


def _damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [False, True])
def test_a_crash_at_any_step_keeps_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bool
) -> None:
    crashes, whole = 0, False
    while not whole:
        directory = tmp_path / str(crashes)
        directory.mkdir()
        _journals(directory, [3, 3, 0, 2, 9])
        if damage:
            _damaged(journal_file(directory, 2).path)
        wanted = [i for i in range(17) if i != 5 or not damage]
        with monkeypatch.context() as patch:
            _crashing(patch, crashes)
            try:
                _seal(directory)
                whole = True
            except Crash:
                pass
        if not damage:
            assert _bars(directory) == wanted
        names = _seal(directory)
        assert _bars(directory) == wanted
        kept = ["damaged-00000002.wal"] if damage else []
        assert names == [*kept, "segment-00000001-00000004.parquet", "segment-00000005.parquet"]
        crashes += 1
    # per written segment two fsyncs and a rename, then what it was made of goes
    assert crashes > 15


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    _journals(tmp_path, [3])
    (tmp_path / ".segment-00000001.parquet.x1y2").write_bytes(b"half")
    assert _seal(tmp_path) == ["segment-00000001.parquet"]


def _child(directory: Path, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "monitoring.sealing", str(directory), "1000", "50", "730", "2000", "1"]
    return subprocess.Popen(command, cwd=ROOT, **options)


def test_kill_9_at_any_time_keeps_each_row_once(tmp_path: Path) -> None:
    _journals(tmp_path, [10] * 60)
    wanted = list(range(600))
    for tenths in range(100):
        child = _child(tmp_path)
        time.sleep(0.15 + 0.02 * tenths)
        ended = child.poll() is not None
        child.kill()
        child.wait()
        assert _bars(tmp_path) == wanted
        if ended:
            break
    assert _names(tmp_path)[-1].startswith("segment-")
    assert len(_names(tmp_path)) == 12


def test_readers_see_each_row_once_while_files_are_sealed_and_joined(tmp_path: Path) -> None:
    _journals(tmp_path, [2] * 80)
    wanted, reads, done = list(range(160)), 0, threading.Event()

    def work() -> None:
        for below in range(1, 82):
            _seal(tmp_path, 40, below=below)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        assert _bars(tmp_path) == wanted
        reads += 1
    thread.join()
    assert _bars(tmp_path) == wanted
    assert len(_names(tmp_path)) == 4
    assert reads > 3


def test_what_is_joined_goes_as_a_whole_once_every_symbol_has_newer_rows(tmp_path: Path) -> None:
    for number, symbol in enumerate("xxy", 1):
        _journal(tmp_path, number, [msgspec.structs.replace(_row(number), symbol=symbol)])
    rules = Retention(days=30.0, min_rows=1)
    (joined,) = _seal(tmp_path, 3, rules)
    os.utime(tmp_path / joined, (0, 0))
    _journal(tmp_path, 4, [_row(4)])
    assert _seal(tmp_path, 3, rules) == [joined, "segment-00000004.parquet"]
    _journal(tmp_path, 5, [msgspec.structs.replace(_row(5), symbol="y")])
    assert _seal(tmp_path, 3, rules) == ["segment-00000004-00000005.parquet"]
    assert _bars(tmp_path) == [4, 5]


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    _journals(tmp_path, [3])
    with (tmp_path / LOCK).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        child = _child(tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.7)
        assert _names(tmp_path) == ["journal-00000001.wal"]
    assert child.wait(20) == 0
    assert _names(tmp_path) == ["segment-00000001.parquet"]


def test_the_process_logs_damage_and_keeps_what_is_readable(tmp_path: Path) -> None:
    _journals(tmp_path, [3])
    _damaged(journal_file(tmp_path, 1).path)
    child = _child(tmp_path, stderr=subprocess.PIPE)
    said = child.communicate(timeout=20)[1].decode().splitlines()
    assert child.returncode == 0
    (line,) = map(json.loads, said)
    assert (line["event"], line["level"], line["component"]) == ("journal_damaged", "error", "prediction_log")
    assert line["kept"].endswith("damaged-00000001.wal")
    assert _bars(tmp_path) == [0, 1]


def test_rows_of_another_version_are_kept_aside(tmp_path: Path) -> None:
    journal = Journal(_journal(tmp_path, 1, [_row(0), _row(1)]))
    journal.append(msgspec.msgpack.encode(["x", 2.0]))
    journal.close()
    assert _seal(tmp_path) == ["damaged-00000001.wal", "segment-00000001.parquet"]
    assert _bars(tmp_path) == [0, 1]


def test_the_process_imports_little(tmp_path: Path) -> None:
    _journals(tmp_path, [3, 3])
    _journal(tmp_path, 3, [_row(6)])
    code = """
import sys
from pathlib import Path
from monitoring.retention import Retention
from monitoring.sealing import seal
seal(Path(sys.argv[1]), 1000, 10, Retention())
seal(Path(sys.argv[1]), 1000, 10, Retention(megabytes=1e-3))
slow = {"pandas", "structlog", "pyarrow.compute", "pyarrow.dataset", "scipy"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert _names(tmp_path) == ["segment-00000001-00000003.parquet"]

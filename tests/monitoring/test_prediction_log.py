import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core.errors import ArtifactError, ServiceError
from monitoring import prediction_log
from monitoring.journal import Journal
from monitoring.log_files import last_number
from monitoring.prediction_log import Prediction, PredictionLog, Retention, feature_columns, read
from monitoring.sealing import seal

NAMES = ["rsi_14", "ret_1", "gap"]
START = 1_183_000_000.0
DAY = 86_400.0


@pytest.fixture(autouse=True)
def _seals_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "SEAL_SECONDS", 0.05)


def _prediction(i: int, names: list[str] = NAMES, version: str = "1") -> Prediction:
    vector = np.arange(len(names)) + i + 0.1
    vector[-1] = np.nan
    return Prediction(
        symbol="sp500",
        bar_time=START + i * DAY,
        logged_at=START + i * DAY + 1.5,
        model="sp500-1d",
        model_version=version,
        data_hash="abc",
        probability=0.5 + i / 1e6,
        confidence=0.1,
        side="hold",
        base_probabilities={"logistic": 0.4, "lstm": 0.6},
        features=vector.tobytes(),
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.5,
        volume=1e6,
        latency_ms=0.3,
    )


def _fill(directory: Path, count: int, **options: float) -> PredictionLog:
    log = PredictionLog(directory, NAMES, **options)  # type: ignore[arg-type]
    for i in range(count):
        log.append(_prediction(i))
    return log


def _seal(directory: Path, segment_rows: int = 10) -> None:
    """What the child process does."""
    seal(directory, 1000, segment_rows, Retention())


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix)


def test_rows_come_back_from_journal_and_segments_alike(tmp_path: Path) -> None:
    log = _fill(tmp_path, 25, segment_rows=10, sync_seconds=0.01)
    live = read(tmp_path)
    log.close()
    _seal(tmp_path)
    closed = read(tmp_path)
    assert str(live.to_pylist()) == str(closed.to_pylist())
    assert closed.num_rows == 25
    assert _names(tmp_path) == [f"segment-0000000{i}.parquet" for i in (1, 2, 3)]
    row = closed.to_pylist()[7]
    assert row["bar_time"] == datetime.fromtimestamp(START + 7 * DAY, UTC)
    assert row["base_probabilities"] == [("logistic", 0.4), ("lstm", 0.6)]
    assert row["features"][:2] == [7.1, 8.1]


def test_reading_selects_by_time_symbol_and_version(tmp_path: Path) -> None:
    _fill(tmp_path, 10).close()
    begin, end = (datetime.fromtimestamp(START + i * DAY, UTC) for i in (2, 4))
    assert read(tmp_path, begin, end).num_rows == 3
    assert read(tmp_path, symbol="other").num_rows == 0
    assert read(tmp_path, model_version="1").num_rows == 10


def test_an_empty_log_reads_as_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing").num_rows == 0
    _fill(tmp_path, 0).close()
    assert read(tmp_path).num_rows == 0
    assert _names(tmp_path) == []


def test_feature_columns_keep_bits_and_names_across_a_change_of_features(tmp_path: Path) -> None:
    log = _fill(tmp_path, 3)
    log.use_features(["ret_1", "new"])
    log.append(_prediction(3, ["ret_1", "new"]))
    log.close()
    columns = feature_columns(read(tmp_path))
    assert columns["ret_1"].tolist() == [1.1, 2.1, 3.1, 3.1]
    assert np.isnan(columns["new"]).all()
    np.testing.assert_array_equal(columns["rsi_14"], [0.1, 1.1, 2.1, np.nan])


def test_a_torn_tail_is_dropped_on_recovery(tmp_path: Path) -> None:
    log = _fill(tmp_path, 5)
    log.flush()
    journal = next(tmp_path.glob("*.wal"))
    torn = tmp_path / "crashed"
    torn.mkdir()
    (torn / journal.name).write_bytes(journal.read_bytes()[:-7])
    log.close()
    assert read(torn).num_rows == 4
    recovered = PredictionLog(torn, NAMES)
    recovered.append(_prediction(9))
    recovered.close()
    _seal(torn)
    assert recovered.damaged == []
    assert read(torn).num_rows == 5


def test_a_flipped_byte_in_a_journal_is_detected_and_set_aside(tmp_path: Path) -> None:
    log = _fill(tmp_path, 5)
    journal = next(tmp_path.glob("*.wal"))
    broken = tmp_path / "broken"
    broken.mkdir()
    data = bytearray(journal.read_bytes())
    log.close()
    data[-20] ^= 4
    (broken / journal.name).write_bytes(data)
    with pytest.raises(ArtifactError, match="checksum"):
        read(broken)
    opened = PredictionLog(broken, NAMES)
    opened.close()
    _seal(broken)
    assert [p.name for p in opened.damaged] == ["damaged-00000001.wal"]
    assert read(broken).num_rows == 4


def test_a_flipped_byte_in_a_segment_is_detected(tmp_path: Path) -> None:
    _fill(tmp_path, 200).close()
    _seal(tmp_path)
    segment = next(tmp_path.glob("*.parquet"))
    good = segment.read_bytes()
    whole = str(read(tmp_path).to_pylist())
    for position in range(0, len(good), max(1, len(good) // 600)):
        flipped = bytearray(good)
        flipped[position] ^= 16
        segment.write_bytes(flipped)
        try:
            table = read(tmp_path)
        except ArtifactError:
            continue
        # the few bytes parquet never checks are footer text that no value depends on
        assert str(table.to_pylist()) == whole


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    log = _fill(tmp_path, 1)
    with pytest.raises(ServiceError, match="in use by another service"):
        PredictionLog(tmp_path, NAMES)
    log.close()


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_prediction_log import NAMES, PredictionLog, _prediction
log = PredictionLog(Path({directory!r}), NAMES, segment_rows=50, sync_seconds=0.01)
for i in range(10_000_000):
    log.append(_prediction(i))
    sys.stdout.write(f"{{i}}\\n")
    sys.stdout.flush()
"""


def test_no_acknowledged_prediction_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = [str(Path(__file__).parent), os.getcwd()]
    code = KILLED.format(path=path, directory=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(500):
        acknowledged = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait(10)
    child.stdout.close()
    acknowledged = max([acknowledged, *map(int, rest[:-1])])
    PredictionLog(tmp_path, NAMES).close()
    _seal(tmp_path, 50)
    times = read(tmp_path)["bar_time"].to_pylist()
    assert len(times) >= acknowledged + 1
    assert times == [datetime.fromtimestamp(START + i * DAY, UTC) for i in range(len(times))]


@pytest.mark.parametrize("fails", ["open", "write"])
def test_a_journal_that_cannot_be_begun_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    log = PredictionLog(tmp_path, NAMES, segment_rows=3, sync_seconds=0.01)
    log.append(_prediction(0), _prediction(1))

    tried = []

    def broken(*_: object) -> None:
        tried.append(1)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        # the rows, then the names that begin the next journal, then rows again
        writes = iter([os.write, broken, os.write, os.write])
        if fails == "open":
            patch.setattr("monitoring.prediction_log.Journal", broken)
        else:
            patch.setattr(os, "write", lambda *given: next(writes, broken)(*given))
        for i in range(2, 5):
            log.append(_prediction(i))
    # not at every row: the disk has enough to do
    assert len(tried) == 1
    # a minute later
    log._roll_next -= prediction_log.ROLL_SECONDS
    log.append(_prediction(5), _prediction(6))
    assert last_number(tmp_path) == 2
    log.close()
    assert [row["probability"] for row in read(tmp_path).to_pylist()] == [0.5 + i / 1e6 for i in range(7)]
    assert not log.damaged


def test_a_failure_to_begin_a_journal_does_not_hold_up_the_one_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    log = PredictionLog(tmp_path, NAMES, segment_rows=2)
    with monkeypatch.context() as patch:
        patch.setattr("monitoring.prediction_log.Journal", broken)
        log.append(_prediction(0), _prediction(1))
    log.use_features(["other"])
    log.append(_prediction(2, ["other"]), _prediction(3, ["other"]))
    assert last_number(tmp_path) == 3
    log.close()


def _sealed(directory: Path) -> bool:
    """Whether a segment is written while the log is open."""
    deadline = time.monotonic() + 20
    while not any(directory.glob("segment-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return any(directory.glob("segment-*.parquet"))


def test_a_disk_that_fails_at_the_end_of_a_journal_stops_neither_syncing_nor_sealing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Journal.close
    failed: list[Path] = []

    def failing(journal: Journal) -> None:
        close(journal)
        if not failed:
            failed.append(journal.path)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Journal, "close", failing)
    log = PredictionLog(tmp_path, NAMES, segment_rows=5, sync_seconds=0.01)
    for i in range(12):
        log.append(_prediction(i))
    assert _sealed(tmp_path)
    assert failed
    log.close()
    assert len(read(tmp_path)) == 12


def test_sealing_that_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def failing(*given: object, **options: object) -> object:
        started.append(given)
        if len(started) == 1:
            raise OSError(12, "Cannot allocate memory")
        return popen(*given, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", failing)
    log = PredictionLog(tmp_path, NAMES, segment_rows=5, sync_seconds=0.01)
    for i in range(6):
        log.append(_prediction(i))
    assert _sealed(tmp_path)
    log.close()


def test_a_journal_becomes_columns_a_day_after_its_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "AGE_SECONDS", 0.3)
    log = PredictionLog(tmp_path, NAMES, sync_seconds=0.01)
    time.sleep(0.5)
    assert _names(tmp_path) == ["journal-00000001.wal"]
    log.append(_prediction(0))
    # nothing is appended any more, and the thread is asleep until then
    assert _sealed(tmp_path)
    log.append(_prediction(1))
    log.close()
    assert _names(tmp_path) == ["journal-00000002.wal", "segment-00000001.parquet"]
    assert read(tmp_path)["probability"].to_pylist() == [_prediction(i).probability for i in (0, 1)]


def test_a_thread_without_work_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path, NAMES, sync_seconds=0.01)
    log.append(_prediction(0))
    time.sleep(0.2)
    passes: list[int] = []
    monkeypatch.setattr(log, "_pass", lambda: passes.append(1))
    time.sleep(0.3)
    log.close()
    assert passes == []


def test_what_an_earlier_run_left_becomes_columns(tmp_path: Path) -> None:
    for _ in range(3):
        _fill(tmp_path, 2).close()
    assert len(_names(tmp_path)) == 3
    log = PredictionLog(tmp_path, NAMES, sync_seconds=0.01)
    deadline = time.monotonic() + 20
    whole = ["journal-00000004.wal", "segment-00000001-00000003.parquet"]
    while _names(tmp_path) != whole and time.monotonic() < deadline:
        time.sleep(0.05)
    log.close()
    assert _names(tmp_path) == whole[1:]
    assert read(tmp_path).num_rows == 6


def test_a_journal_rolls_at_a_part_of_the_size_that_is_kept(tmp_path: Path) -> None:
    rules = Retention(megabytes=8 * 0.01)
    log = _fill(tmp_path, 200, retention=rules)  # type: ignore[arg-type]
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("journal-*")]
    assert max(sizes) < rules.segment_bytes + 500
    assert len(sizes) > 3
    assert read(tmp_path).num_rows == 200


CLOSING = """
import resource, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_prediction_log import NAMES, PredictionLog, _prediction
log = PredictionLog(Path({directory!r}), NAMES)
for i in range(0, 20_000, 100):
    log.append(*map(_prediction, range(i, i + 100)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
log.close()
took = time.perf_counter() - start
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
found = [name for name in sys.modules if name.startswith("pyarrow")]
assert took < 2, took
assert grown < 2_000, grown
assert not found, found
"""


def test_closing_a_full_journal_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    code = CLOSING.format(path=[str(Path(__file__).parent), os.getcwd()], directory=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True)
    assert read(tmp_path).num_rows == 20_000

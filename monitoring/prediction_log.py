"""Every prediction the service made, append-only and crash-safe, as columns.

    var/predictions/<model>/segment-00000001.parquet   closed rows, with page checksums
    var/predictions/<model>/journal-00000002.wal       newest rows, not yet columns

An append goes to the journal before the request is answered: it survives a killed process at once, and a
power cut after the next grouped fsync. A background thread turns a full journal into a parquet segment
(temporary file, fsync, rename) and removes it; a crash between the two leaves both, and the segment wins.
Memory is bounded by one journal. pyarrow is imported when the first segment is written, or on reading.
"""

import contextlib
import fcntl
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from core.errors import ArtifactError, ServiceError
from core.files import write_bytes
from monitoring.journal import Journal, scan
from monitoring.prediction_table import (
    JOURNAL,
    SEGMENT,
    Prediction,
    feature_columns,
    file_number,
    journal_rows,
    read,
    to_parquet,
)

__all__ = ["Prediction", "PredictionLog", "feature_columns", "read", "recover"]

DAMAGED = "damaged-*.wal"


class PredictionLog:
    """The writer for one model: one process at a time, one appending thread at a time."""

    def __init__(
        self,
        directory: Path,
        feature_names: Sequence[str],
        *,
        segment_rows: int = 4096,
        sync_seconds: float = 0.2,
    ) -> None:
        """Lock the directory, recover what a crash left, and start a fresh journal.

        ServiceError when another process holds it. A damaged journal is set aside as damaged-*.wal (its
        readable rows are kept) and listed in `damaged`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock_file = _lock(directory)
        self._segment_rows, self._sync_seconds = segment_rows, sync_seconds
        self._names = list(feature_names)
        self.damaged = recover(directory)
        self._open_journal(_last_number(directory) + 1)
        self._full: list[Journal] = []
        self._guard = threading.Lock()
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._background, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, prediction: Prediction) -> None:
        """Write one prediction; when this returns it survives kill -9. OSError when the disk refuses it."""
        with self._guard:
            self._journal.append(msgspec.msgpack.encode(prediction))
            self._rows += 1
            if self._rows >= self._segment_rows:
                self._roll()
        self._dirty.set()

    def use_features(self, feature_names: Sequence[str]) -> None:
        """From here on, rows hold these features: a segment never mixes two sets."""
        with self._guard:
            if list(feature_names) != self._names:
                self._names = list(feature_names)
                self._roll()

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk."""
        with self._guard:
            journals = [*self._full, self._journal]
        for journal in journals:
            journal.sync()

    def close(self) -> None:
        """Turn the rest into a segment and let go of the directory."""
        self._stop.set()
        self._dirty.set()
        self._thread.join()
        self._seal([*self._full, self._journal])
        self._lock_file.close()

    def _open_journal(self, number: int) -> None:
        self._number, self._rows = number, 0
        self._journal = Journal(self.directory / f"journal-{number:08d}.wal")
        self._journal.append(msgspec.msgpack.encode(self._names))

    def _roll(self) -> None:
        # no fsync here: the background thread closes the full journal
        self._full.append(self._journal)
        self._open_journal(self._number + 1)

    def _background(self) -> None:
        while True:
            self._dirty.wait()
            self._dirty.clear()
            if self._stop.wait(self._sync_seconds):
                return
            self._pass()

    def _pass(self) -> None:
        with self._guard:
            full, self._full, current = self._full, [], self._journal
        try:
            current.sync()
            _sync_directory(self.directory)
        except OSError as error:
            _warn("sync_failed", self.directory, error)
        left = self._seal(full)
        with self._guard:
            self._full[:0] = left

    def _seal(self, journals: Sequence[Journal]) -> list[Journal]:
        """Make segments; returns the journals that could not be sealed, such as on a full disk."""
        left = []
        for journal in journals:
            try:
                journal.close()
                seal(journal.path)
            except (OSError, ArtifactError) as error:
                structlog.get_logger(component="prediction_log").error(
                    "segment_not_written", journal=str(journal.path), error=str(error)
                )
                left.append(journal)
        return left


def _warn(event: str, path: Path, error: Exception) -> None:
    structlog.get_logger(component="prediction_log").error(event, path=str(path), error=str(error))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(directory: Path) -> io.TextIOWrapper:
    file = (directory / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ServiceError(
            f"{directory} is in use by another service: a prediction log has one writer; stop the other "
            "service or serve another model"
        ) from None
    return file


def _last_number(directory: Path) -> int:
    return max(
        (file_number(p) for kind in (SEGMENT, JOURNAL, DAMAGED) for p in directory.glob(kind)), default=0
    )


def recover(directory: Path) -> list[Path]:
    """Seal every journal a dead writer left; returns those that were damaged, now set aside."""
    damaged = []
    for path in sorted(directory.glob(JOURNAL)):
        try:
            seal(path)
        except (ArtifactError, msgspec.DecodeError) as error:
            aside = path.with_name(path.name.replace("journal", "damaged"))
            _salvage(path, aside)
            _warn("journal_damaged", aside, error)
            damaged.append(aside)
    return damaged


def seal(journal: Path) -> None:
    """Turn a closed journal into a segment and remove it; ArtifactError when a record is damaged."""
    if not _segment_of(journal).exists():
        _write_segment(journal, list(scan(journal)))
    journal.unlink(missing_ok=True)


def _salvage(journal: Path, aside: Path) -> None:
    _write_segment(journal, list(_before_damage(scan(journal))))
    journal.rename(aside)


def _before_damage(payloads: Iterator[bytes]) -> Iterator[bytes]:
    with contextlib.suppress(ArtifactError):
        yield from payloads


def _segment_of(journal: Path) -> Path:
    return journal.with_name(f"segment-{file_number(journal):08d}.parquet")


def _write_segment(journal: Path, payloads: Sequence[bytes]) -> None:
    names, rows = journal_rows(payloads)
    if rows:
        write_bytes(_segment_of(journal), to_parquet(names, rows))

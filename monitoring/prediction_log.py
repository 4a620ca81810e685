"""Every prediction the service made, append-only and crash-safe, as columns.

    var/predictions/<model>/segment-00000001.parquet            a closed journal, with page checksums
    var/predictions/<model>/segment-00000002-00000005.parquet   small ones together
    var/predictions/<model>/journal-00000006.wal                newest rows, not yet columns

An append goes to the journal before the request is answered: it survives a killed process at once, and a
power cut after the next grouped fsync. A child process turns journals that are full, a day old or of an
earlier run into parquet segments (temporary file, fsync, rename) and removes them; after a crash between
the two the segment wins. The same process removes old segments (`monitoring.retention`).
Memory does not grow with the log. Readers merge segments and journals, so sealing may lag or fail.
"""

import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

import msgspec
import structlog

from core.settings import child_environment
from monitoring.journal import Journal
from monitoring.log_files import journal_file, last_number, log_files
from monitoring.prediction_table import Prediction, feature_columns, read
from monitoring.retention import Retention
from monitoring.sole_writer import claim

__all__ = ["Prediction", "PredictionLog", "Retention", "feature_columns", "read"]

SEAL_SECONDS = 3.0
LOOK_SECONDS = 3600.0
ROLL_SECONDS = 60.0
AGE_SECONDS = 86_400.0
# answers go first where cores are few; set from outside, as importing is half of the sealer's time
NICE = 19
# Sealing may take one part of a core's time in ten, whatever the load.
SEAL_REST = 9.0


_ONE_WRITER = "a prediction log has one writer; stop the other service or serve another model"


class PredictionLog:
    """The writer for one model: one process at a time, one appending thread at a time."""

    def __init__(
        self,
        directory: Path,
        feature_names: Sequence[str],
        *,
        segment_rows: int = 32_768,
        sync_seconds: float = 0.2,
        retention: Retention | None = None,
    ) -> None:
        """Lock the directory and start a journal; what an earlier run left is sealed in the background.

        A journal is full at `segment_rows`, or at the size that `retention` allows a segment. Retention is
        applied after a segment is written and, while rows come, once an hour.

        ServiceError when another process holds the directory.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock_file = claim(directory, _ONE_WRITER)
        self._segment_rows, self._sync_seconds = segment_rows, sync_seconds
        self._retention = retention or Retention()
        self._looked = -math.inf
        self._names = list(feature_names)
        self._full: list[Journal] = []
        self._sealer: subprocess.Popen[bytes] | None = None
        # not at once: the service that starts needs the cores
        self._seal_before, self._seal_next = 0.0, time.monotonic() + SEAL_SECONDS
        self._unsealed = any(file.is_journal for file in log_files(directory))
        self._open_journal(last_number(directory) + 1, self._names)
        self._guard = threading.Lock()
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._dirty.set()
        self._thread = threading.Thread(target=self._background, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def damaged(self) -> list[Path]:
        """Journals that failed their checksums and were set aside; their readable rows are in segments."""
        return [file.path for file in log_files(self.directory) if file.is_damaged]

    def append(self, *predictions: Prediction) -> None:
        """Write predictions; when this returns they survive kill -9. OSError when the disk refuses them."""
        with self._guard:
            self._journal.append(*map(msgspec.msgpack.encode, predictions))
            if not self._rows:
                self._due = time.monotonic() + AGE_SECONDS
            self._rows += len(predictions)
            full = self._rows >= self._segment_rows or self._journal.size >= self._retention.segment_bytes
            if full and time.monotonic() >= self._roll_next:
                self._try_to_roll()
        # asking is a tenth of telling
        if not self._dirty.is_set():
            self._dirty.set()

    def use_features(self, feature_names: Sequence[str]) -> None:
        """From here on, rows hold these features: a segment never mixes two sets."""
        with self._guard:
            if list(feature_names) != self._names:
                self._roll(list(feature_names))

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk."""
        with self._guard:
            journals = [*self._full, self._journal]
        for journal in journals:
            journal.sync()

    def close(self) -> None:
        """Sync everything and let go of the directory; the next start seals the rest."""
        self._stop.set()
        self._dirty.set()
        self._thread.join()
        for journal in (*self._full, self._journal):
            _close(journal)
        if not self._rows:
            with suppress(OSError):
                self._journal.path.unlink()
        if self._sealer is not None:
            # its work is whole or absent, and begins anew
            self._sealer.kill()
            self._sealer.wait()
        self._lock_file.close()

    def _open_journal(self, number: int, names: list[str]) -> None:
        path = journal_file(self.directory, number).path
        journal = Journal(path)
        try:
            journal.append(msgspec.msgpack.encode(names))
        except OSError:
            journal.close()
            path.unlink(missing_ok=True)
            raise
        self._journal, self._number, self._names = journal, number, names
        self._rows, self._due, self._roll_next = 0, math.inf, -math.inf

    def _roll(self, names: list[str]) -> None:
        """Begin the next journal; OSError leaves the present one in use."""
        full = self._journal
        self._open_journal(self._number + 1, names)
        # no fsync here: the background thread closes the full journal
        self._full.append(full)

    def _try_to_roll(self) -> None:
        try:
            self._roll(self._names)
        except OSError as error:
            # the rows are written: the journal grows until another can be begun
            self._roll_next = self._due = time.monotonic() + ROLL_SECONDS
            _warn("roll_failed", self.directory, str(error))

    def _background(self) -> None:
        while True:
            self._dirty.wait(self._pause())
            self._dirty.clear()
            if self._stop.wait(self._sync_seconds):
                return
            self._pass()

    def _pause(self) -> float | None:
        """Seconds until there is something to do though nothing is appended; None: never."""
        if self._unsealed or self._sealer is not None:
            return SEAL_SECONDS
        return None if self._due == math.inf else max(0.0, self._due - time.monotonic())

    def _pass(self) -> None:
        with self._guard:
            if time.monotonic() >= self._due:
                self._try_to_roll()
            full, self._full, current = self._full, [], self._journal
            number = self._number
        try:
            for journal in (*full, current):
                journal.sync()
            _sync_directory(self.directory)
        except OSError as error:
            _warn("sync_failed", self.directory, str(error))
        for journal in full:
            _close(journal)
        self._unsealed = self._unsealed or bool(full) or self._outdated()
        if self._sealer is not None and self._sealer.poll() is not None:
            self._seal_next = time.monotonic() + SEAL_REST * (_children_seconds() - self._seal_before)
            if self._sealer.returncode:
                self._unsealed = True
                _warn("sealing_failed", self.directory, f"exit code {self._sealer.returncode}")
            self._sealer = None
        if self._unsealed and self._sealer is None and time.monotonic() >= self._seal_next:
            self._unsealed = False
            self._start_sealer(number)

    def _outdated(self) -> bool:
        """True when retention has something to look at; asked once an hour."""
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        try:
            return bool(self._retention.candidates(self.directory, time.time()))
        except OSError:
            return False

    def _start_sealer(self, below: int) -> None:
        given = (self.directory.absolute(), below, self._segment_rows, *astuple(self._retention))
        command = [sys.executable, "-m", "monitoring.sealing", *map(str, given)]
        root = Path(__file__).resolve().parent.parent
        self._seal_before = _children_seconds()
        try:
            # out of ctrl-C's reach, but in no session of its own: Linux shares out time among sessions first,
            # and by nice only within one
            self._sealer = subprocess.Popen(
                command, cwd=root, env=child_environment(), stdin=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            self._unsealed, self._seal_next = True, time.monotonic() + SEAL_SECONDS
            _warn("sealing_failed", self.directory, str(error))
            return
        # it seals at any rank: one that ended already, or a kernel that refuses, is no failure
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._sealer.pid, NICE)


def _children_seconds() -> float:
    """CPU time of the processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _warn(event: str, path: Path, error: str) -> None:
    structlog.get_logger(component="prediction_log").error(event, path=str(path), error=error)


def _close(journal: Journal) -> None:
    try:
        journal.close()
    except OSError as error:
        _warn("sync_failed", journal.path, str(error))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

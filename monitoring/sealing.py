"""Turns full journals into parquet segments and removes what retention allows.

`python -m monitoring.sealing DIRECTORY BELOW SEGMENT_ROWS DAYS MEGABYTES MIN_ROWS`

A process of its own, so that the service neither holds pyarrow in memory nor shares its interpreter lock
with the conversion. It may be killed at any instant: a segment is in place, whole and on the disk, before
what it was made of is removed, and from then on it stands for that.
"""

import fcntl
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import ArtifactError
from monitoring.journal import scan
from monitoring.log_files import LogFile, damaged_file, log_files, segment_file, standing
from monitoring.prediction_table import Prediction, journal_table, read_segment, rows_of, write_segment
from monitoring.retention import Retention, prune

if TYPE_CHECKING:
    import pyarrow as pa

LOCK = ".sealing"
_LOGGER = logging.getLogger("prediction_log")


def seal(directory: Path, below: int, segment_rows: int, rules: Retention) -> None:
    """Seal every journal numbered below `below`, then prune; waits while another process does.

    The rows of a small journal join those of a small segment before it, so that neither restarts nor slow
    symbols leave many files. Of a damaged journal the rows before the damage are sealed, and it is kept as
    damaged-*.wal.
    """
    with _alone(directory):
        _clear(directory)
        previous: LogFile | None = None
        for file in standing(log_files(directory)):
            if file.is_segment:
                previous = file
            elif file.last < below:
                previous = _seal(file, previous, segment_rows, rules) or previous
        prune(directory, rules)


def _seal(journal: LogFile, previous: LogFile | None, segment_rows: int, rules: Retention) -> LogFile | None:
    """The segment that now holds the journal's rows; None when there were none."""
    import pyarrow as pa

    made, (table, damage) = None, _rows(journal.path)
    if len(table):
        older = None if previous is None else _to_join(previous, journal, table, segment_rows, rules)
        if previous is None or older is None:
            made = segment_file(journal.path.parent, journal.first, journal.last)
            write_segment(made.path, table)
        else:
            made = segment_file(journal.path.parent, previous.first, journal.last)
            write_segment(made.path, pa.concat_tables([older, table]))
            previous.path.unlink()
    _put_away(journal, damage)
    return made


def _to_join(
    previous: LogFile, journal: LogFile, table: "pa.Table", segment_rows: int, rules: Retention
) -> "pa.Table | None":
    """The rows of `previous` when they and those of `table` make one segment that is not too large."""
    if previous.path.stat().st_size + journal.path.stat().st_size > rules.segment_bytes:
        return None
    try:
        if rows_of(previous.path) + len(table) > segment_rows:
            return None
        older = read_segment(previous.path)
    except ArtifactError as error:
        _LOGGER.error("segment_damaged", {"error": str(error)})
        return None
    seconds = (table["logged_at"][-1].value - older["logged_at"][0].value) / 1e6
    same = older.schema.metadata == table.schema.metadata
    return older if same and seconds <= rules.segment_seconds else None


def _rows(path: Path) -> "tuple[pa.Table, Exception | None]":
    """The rows of a journal up to its end or the damage, and the damage."""
    damages: list[Exception] = []
    try:
        table = journal_table(_before_damage(scan(path), damages))
    except msgspec.DecodeError as error:
        table = journal_table(_of_this_version(_before_damage(scan(path), damages)))
        damages.append(error)
    return table, next(iter(damages), None)


def _before_damage(payloads: Iterator[bytes], damages: list[Exception]) -> Iterator[bytes]:
    try:
        yield from payloads
    except ArtifactError as error:
        damages.append(error)


def _of_this_version(payloads: Iterator[bytes]) -> Iterator[bytes]:
    kinds = chain([list[str]], repeat(Prediction))
    with suppress(msgspec.DecodeError):
        for payload, kind in zip(payloads, kinds, strict=False):
            msgspec.msgpack.decode(payload, type=kind)
            yield payload


def _put_away(journal: LogFile, damage: Exception | None) -> None:
    """Remove a journal whose rows are in a segment, or keep it aside for what could not be read."""
    if damage is None:
        journal.path.unlink()
        return
    aside = damaged_file(journal).path
    journal.path.rename(aside)
    _LOGGER.error("journal_damaged", {"kept": str(aside), "error": str(damage)})


def _clear(directory: Path) -> None:
    """Finish what was interrupted."""
    for temporary in directory.glob(".segment-*"):
        temporary.unlink()
    files = log_files(directory)
    left = set(files) - set(standing(files))
    for file in left:
        if file.is_journal:
            _put_away(file, _rows(file.path)[1])
        elif file.is_segment:
            file.path.unlink()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One at a time: what a killed service started may still be at work."""
    with (directory / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Say(logging.Handler):
    """Logs as the service does; set up only when there is something to say, as it takes long to import."""

    def emit(self, record: logging.LogRecord) -> None:
        from core import log

        logging.getLogger().removeHandler(self)
        log.configure(json=True)
        logging.getLogger().handle(record)


if __name__ == "__main__":
    gc.disable()  # nothing here refers to itself
    logging.getLogger().addHandler(_Say())
    _LOGGER.setLevel(logging.INFO)
    place, below, rows, days, megabytes, min_rows = sys.argv[1:]
    seal(Path(place), int(below), int(rows), Retention(float(days), float(megabytes), int(min_rows)))

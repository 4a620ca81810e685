"""Turns full journals into parquet segments and removes what retention allows.

`python -m monitoring.sealing DIRECTORY BELOW DAYS MEGABYTES MIN_ROWS`

A process of its own, so that the service neither holds pyarrow in memory nor shares its interpreter lock
with the conversion.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from core.errors import ArtifactError
from core.files import write_bytes
from monitoring.journal import scan
from monitoring.prediction_table import JOURNAL, file_number, journal_rows, to_parquet
from monitoring.retention import Retention, prune


def seal_below(directory: Path, number: int) -> list[Path]:
    """Seal every journal numbered below `number`; returns the damaged ones, set aside as damaged-*.wal.

    The readable rows before the damage are kept in the segment.
    """
    damaged = []
    for path in sorted(directory.glob(JOURNAL)):
        if file_number(path) >= number:
            continue
        try:
            seal(path)
        except (ArtifactError, msgspec.DecodeError) as error:
            aside = path.with_name(path.name.replace("journal", "damaged"))
            _write_segment(path, list(_before_damage(scan(path))))
            path.rename(aside)
            structlog.get_logger(component="prediction_log").error(
                "journal_damaged", kept=str(aside), error=str(error)
            )
            damaged.append(aside)
    return damaged


def seal(journal: Path) -> None:
    """Turn a closed journal into a segment and remove it; ArtifactError when a record is damaged."""
    if not _segment_of(journal).exists():
        _write_segment(journal, list(scan(journal)))
    journal.unlink(missing_ok=True)


def _before_damage(payloads: Iterator[bytes]) -> Iterator[bytes]:
    with contextlib.suppress(ArtifactError):
        yield from payloads


def _segment_of(journal: Path) -> Path:
    return journal.with_name(f"segment-{file_number(journal):08d}.parquet")


def _write_segment(journal: Path, payloads: Sequence[bytes]) -> None:
    names, rows = journal_rows(payloads)
    if rows:
        write_bytes(_segment_of(journal), to_parquet(names, rows))


if __name__ == "__main__":
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    os.nice(10)  # answers go first where cores are few
    place, below, days, megabytes, min_rows = sys.argv[1:]
    seal_below(Path(place), int(below))
    prune(Path(place), Retention(float(days), float(megabytes), int(min_rows)))

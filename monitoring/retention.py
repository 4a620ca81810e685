"""How long predictions are kept: by age and by size, but never so little that drift cannot be judged."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import ArtifactError
from monitoring.log_files import segments
from monitoring.prediction_table import symbols_of

_DAY = 86_400.0
_MEGABYTE = 1_000_000
_LOGGER = logging.getLogger("prediction_log")
# Segments are removed whole: as parts of what is kept, none holds much more than was asked for.
_OF_SIZE, _OF_AGE = 8, 10
_SEGMENT_MEGABYTES = 64


@dataclass(frozen=True)
class Retention:
    """Segments written more than `days` ago go, and the oldest while all exceed `megabytes`.

    The newest `min_rows` predictions of each symbol stay, whatever their age: the drift check reads them.
    """

    days: float = 730.0
    megabytes: float = 2000.0
    min_rows: int = 10_000

    @property
    def segment_bytes(self) -> float:
        """Size of a journal at which it becomes a segment: little memory holds one as columns."""
        return min(self.megabytes / _OF_SIZE, _SEGMENT_MEGABYTES) * _MEGABYTE

    @property
    def segment_seconds(self) -> float:
        """Between the first and last rows of small journals that are put together."""
        return self.days / _OF_AGE * _DAY

    def candidates(self, directory: Path, now: float) -> list[Path]:
        """Segments that age or size would remove, oldest first; a few `stat` calls."""
        files = [(file.path, file.path.stat()) for file in segments(directory)]
        total, found = sum(stat.st_size for _, stat in files), []
        for path, stat in files:
            if total > self.megabytes * _MEGABYTE or now - stat.st_mtime > self.days * _DAY:
                found.append(path)
                total -= stat.st_size
        return found


def prune(directory: Path, rules: Retention, now: float | None = None) -> list[Path]:
    """Remove what `rules` allow, oldest first; returns what was removed. A damaged segment stays."""
    candidates = set(rules.candidates(directory, time.time() if now is None else now))
    removed = []
    if candidates:
        removed = sorted(path for path in _unneeded(directory, rules.min_rows) if path in candidates)
    for path in removed:
        path.unlink(missing_ok=True)
    if removed:
        _LOGGER.info("predictions_removed", {"path": str(directory), "segments": len(removed)})
    return removed


def _unneeded(directory: Path, min_rows: int) -> Iterator[Path]:
    """Segments of which every symbol has `min_rows` predictions in newer ones, newest first."""
    newer: Counter[str] = Counter()
    for file in reversed(segments(directory)):
        try:
            rows = Counter(symbols_of(file.path))
        except ArtifactError as error:
            _LOGGER.error("segment_damaged", {"error": str(error)})
            continue
        if all(newer[symbol] >= min_rows for symbol in rows):
            yield file.path
        newer.update(rows)

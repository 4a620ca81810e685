"""The files of a prediction log: which there are, in what order, and which of them stand for its rows."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SEGMENT, _JOURNAL, _DAMAGED = "segment", "journal", "damaged"
_SUFFIXES = {_SEGMENT: ".parquet", _JOURNAL: ".wal", _DAMAGED: ".wal"}


@dataclass(frozen=True)
class LogFile:
    """A journal, the segment made of it, or what of it was damaged; `first` to `last` are its numbers.

    Journals are numbered as they were begun. A segment of several small ones has the numbers of them all.
    """

    path: Path
    kind: str
    first: int
    last: int

    @property
    def is_journal(self) -> bool:
        """True for rows that are not columns yet."""
        return self.kind == _JOURNAL

    @property
    def is_segment(self) -> bool:
        """True for rows in parquet."""
        return self.kind == _SEGMENT

    @property
    def is_damaged(self) -> bool:
        """True for a journal that was set aside."""
        return self.kind == _DAMAGED


def journal_file(directory: Path, number: int) -> LogFile:
    """The journal of that number, whether it is there or not."""
    return _file(directory, _JOURNAL, number, number)


def segment_file(directory: Path, first: int, last: int) -> LogFile:
    """The segment of these journals, whether it is there or not."""
    return _file(directory, _SEGMENT, first, last)


def damaged_file(journal: LogFile) -> LogFile:
    """Where a journal with damage is kept."""
    return _file(journal.path.parent, _DAMAGED, journal.first, journal.last)


def log_files(directory: Path) -> list[LogFile]:
    """All of them, by kind and number; none for a directory that is not there.

    Listing a directory may miss a file that another one is just replaced by: only what two listings agree
    on was there at one time.
    """
    found = _listed(directory)
    while (again := _listed(directory)) != found:
        found = again
    return found


def standing(files: Iterable[LogFile]) -> list[LogFile]:
    """The segments and journals that hold each row once, oldest first.

    What a crash left behind beside the segment made of it is not among them.
    """
    candidates = [file for file in files if file.is_segment or file.is_journal]
    kept, covered = [], 0
    for file in sorted(candidates, key=lambda f: (f.first, -f.last, f.is_journal)):
        if file.first > covered:
            kept.append(file)
            covered = file.last
    return kept


def segments(directory: Path) -> list[LogFile]:
    """The standing segments, oldest first."""
    return [file for file in standing(log_files(directory)) if file.is_segment]


def last_number(directory: Path) -> int:
    """The highest number in use; 0 for an empty log."""
    return max((file.last for file in log_files(directory)), default=0)


def _file(directory: Path, kind: str, first: int, last: int) -> LogFile:
    numbers = f"{first:08d}" if first == last else f"{first:08d}-{last:08d}"
    return LogFile(directory / f"{kind}-{numbers}{_SUFFIXES[kind]}", kind, first, last)


def _listed(directory: Path) -> list[LogFile]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [file for name in names if (file := _parsed(directory, name.split(".")[0], name)) is not None]


def _parsed(directory: Path, stem: str, name: str) -> LogFile | None:
    kind, *numbers = stem.split("-")
    if kind not in _SUFFIXES or not numbers or not all(map(str.isdecimal, numbers)):
        return None
    file = _file(directory, kind, int(numbers[0]), int(numbers[-1]))
    # another suffix, three numbers or the like: not ours
    return file if file.path.name == name else None

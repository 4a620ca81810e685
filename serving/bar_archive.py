"""The bars a model was given, append-only, so that feature state can be computed again.

    var/state/<model>/bars-00000001.wal

Bars are here before they are answered, the warming ones too: the prediction log holds only those that were
scored. Files roll at a size; the oldest go once checkpoints no longer need them and the whole is over its
limit.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.errors import ArtifactError
from monitoring.journal import Journal, scan
from serving.bar import Bar

PATTERN = "bars-*.wal"
ROLL_BYTES = 1024 * 1024
KEEP_BYTES = 16 * 1024 * 1024
_VALUES = struct.Struct("<6d")


class BarArchive:
    """Writer and reader of one directory; one writer at a time, one appending thread at a time."""

    def __init__(
        self, directory: Path, *, roll_bytes: int = ROLL_BYTES, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.directory, self._roll_bytes, self._keep_bytes = directory, roll_bytes, keep_bytes
        self.number = max(map(_number, directory.glob(PATTERN)), default=0) + 1
        self._journal: Journal | None = None
        self._full: list[Journal] = []

    def append(self, bars: Sequence[Bar]) -> None:
        """One record for these bars; when it returns they survive kill -9. OSError when the disk refuses."""
        if self._journal is None:
            self._journal = Journal(self.directory / f"bars-{self.number:08d}.wal")
        self._journal.append(b"".join(map(_pack, bars)))
        if self._journal.size >= self._roll_bytes:
            # closed, with its fsync, by `sync` in the background
            self._full.append(self._journal)
            self._journal, self.number = None, self.number + 1

    def sync(self) -> None:
        """Wait until everything appended so far is on the disk."""
        journal = self._journal
        while self._full:
            self._full.pop(0).close()
        if journal is not None:
            journal.sync()

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            self.number += 1

    def read(self, start: int = 0) -> tuple[list[Bar], list[str]]:
        """Bars of the files numbered `start` and above, in order of arrival, a torn tail dropped; and faults.

        Of a damaged file the bars before the damage are there.
        """
        bars: list[Bar] = []
        faults: list[str] = []
        for path in sorted(self.directory.glob(PATTERN)):
            if _number(path) < start:
                continue
            try:
                for record in scan(path):
                    bars += _unpack(record, path)
            except ArtifactError as error:
                faults.append(str(error))
        return bars, faults

    def trim(self, needed: int) -> None:
        """Remove the oldest files while all are over the limit, but none numbered `needed` or above."""
        files = sorted(self.directory.glob(PATTERN))
        sizes = [path.stat().st_size for path in files]
        while files and sum(sizes) > self._keep_bytes and _number(files[0]) < needed:
            files.pop(0).unlink()
            sizes.pop(0)


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _pack(bar: Bar) -> bytes:
    symbol = bar.symbol.encode()
    return b"%c%b%b" % (len(symbol), symbol, _VALUES.pack(*bar[1:]))


def _unpack(record: bytes, path: Path) -> Iterator[Bar]:
    offset = 0
    try:
        while offset < len(record):
            begin = offset + 1
            end = begin + record[offset]
            yield Bar(record[begin:end].decode(), *_VALUES.unpack_from(record, end))
            offset = end + _VALUES.size
    except (struct.error, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} holds a record of another format: move it elsewhere") from error

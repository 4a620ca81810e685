"""A write-ahead file of records that knows a torn tail from damage.

Record: header (payload length u32, CRC-32 of payload u32, CRC-32 of those eight bytes u32), payload.
An append is one `write` to the operating system, so a record survives the death of the process; `sync`
makes it survive the death of the machine. A crash can only cut the end of the file: an incomplete last
record, or zeros where pages were never written. Anything else that does not check out is damage.
"""

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from core.errors import ArtifactError

_HEADER = struct.Struct("<III")
_ABOUT, _SUM = struct.Struct("<II"), struct.Struct("<I")


def _header(payload: bytes) -> bytes:
    about = _ABOUT.pack(len(payload), zlib.crc32(payload))
    return about + _SUM.pack(zlib.crc32(about))


class Journal:
    """One write-ahead file, open for appending by one writer."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`; an existing file is appended to, so recover it first."""
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self._fd).st_size
        self._closing = threading.Lock()

    def append(self, *payloads: bytes) -> None:
        """Hand records to the operating system at once; on OSError the file is as it was before."""
        records = b"".join([_header(payload) + payload for payload in payloads])
        try:
            written = os.write(self._fd, records)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        if written != len(records):
            os.ftruncate(self._fd, self.size)
            raise OSError(f"{self.path}: {written} of {len(records)} bytes written: the disk is full")
        self.size += written

    def sync(self) -> None:
        """Wait until every appended record is on the disk."""
        with self._closing:
            if self._fd >= 0:
                os.fsync(self._fd)

    def close(self) -> None:
        """Sync and close; closing twice is harmless."""
        with self._closing:
            if self._fd >= 0:
                try:
                    os.fsync(self._fd)
                finally:
                    os.close(self._fd)
                    self._fd = -1


def scan(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a journal in order, dropping a torn tail.

    ArtifactError names the offset of a record that is damaged rather than torn; the records before it
    have been yielded by then.
    """
    data = path.read_bytes()
    offset = 0
    while offset < len(data):
        payload = _record(data, offset, path)
        if payload is None:
            return
        yield payload
        offset += _HEADER.size + len(payload)


def _record(data: bytes, offset: int, path: Path) -> bytes | None:
    body = offset + _HEADER.size
    if body > len(data):
        return None
    length, payload_crc, header_crc = _HEADER.unpack_from(data, offset)
    if zlib.crc32(data[offset : offset + 8]) != header_crc:
        if not data[offset:].strip(b"\0"):
            return None
        raise _damaged(path, offset)
    payload = data[body : body + length]
    if len(payload) < length:
        return None
    if zlib.crc32(payload) != payload_crc:
        raise _damaged(path, offset)
    return payload


def _damaged(path: Path, offset: int) -> ArtifactError:
    return ArtifactError(
        f"{path}: the record at byte {offset} does not match its checksum: the file was changed on disk; "
        "restore it from a backup, or delete it to lose its predictions"
    )

from pathlib import Path

import pytest

from core.errors import ArtifactError
from monitoring.journal import Journal, scan

RECORDS = [b"first", b"", b"a longer third record" * 5, b"\0\0\0\0"]


def _written(path: Path) -> bytes:
    journal = Journal(path)
    for record in RECORDS:
        journal.append(record)
    journal.close()
    journal.close()
    return path.read_bytes()


def test_scan_returns_what_was_appended(tmp_path: Path) -> None:
    _written(tmp_path / "j")
    assert list(scan(tmp_path / "j")) == RECORDS


def test_every_truncation_is_a_torn_tail(tmp_path: Path) -> None:
    data = _written(tmp_path / "j")
    for size in range(len(data)):
        (tmp_path / "j").write_bytes(data[:size])
        found = list(scan(tmp_path / "j"))
        assert found == RECORDS[: len(found)]
        assert len(found) < len(RECORDS)


def test_unwritten_pages_after_a_power_cut_are_a_torn_tail(tmp_path: Path) -> None:
    data = _written(tmp_path / "j")
    (tmp_path / "j").write_bytes(data + bytes(4096))
    assert list(scan(tmp_path / "j")) == RECORDS


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    data = _written(tmp_path / "j")
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        (tmp_path / "j").write_bytes(flipped)
        with pytest.raises(ArtifactError, match="does not match its checksum"):
            list(scan(tmp_path / "j"))


def test_a_refused_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(b"kept")
    import os

    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(OSError, match="disk is full"):
        journal.append(b"lost")
    monkeypatch.undo()
    journal.append(b"next")
    journal.close()
    assert list(scan(tmp_path / "j")) == [b"kept", b"next"]

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.log_files import (
    damaged_file,
    journal_file,
    last_number,
    log_files,
    segment_file,
    segments,
    standing,
)


def _touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def test_names_say_which_journals_a_file_holds(tmp_path: Path) -> None:
    files = [journal_file(tmp_path, 7), segment_file(tmp_path, 3, 3), segment_file(tmp_path, 4, 6)]
    files.append(damaged_file(journal_file(tmp_path, 2)))
    names = [file.path.name for file in files]
    assert names == [
        "journal-00000007.wal",
        "segment-00000003.parquet",
        "segment-00000004-00000006.parquet",
        "damaged-00000002.wal",
    ]
    _touch(tmp_path, *names)
    assert set(log_files(tmp_path)) == set(files)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    _touch(
        tmp_path, ".lock", ".segment-00000001.parquet.ab12", "segment-1.parquet", "segment-00000001.wal",
        "journal-00000001.wal.bak", "segment-00000001-00000002-00000003.parquet", "segment-x.parquet",
        "segment.parquet", "journal-00000001-00000001.wal", "notes.txt",
    )  # fmt: skip
    assert log_files(tmp_path) == []
    assert last_number(tmp_path) == 0
    assert log_files(tmp_path / "absent") == []


def test_a_segment_stands_for_what_it_was_made_of(tmp_path: Path) -> None:
    _touch(tmp_path, "segment-00000001.parquet", "journal-00000001.wal")
    # 2 to 4, joined, then joined with 5; a crash left parts of both
    _touch(tmp_path, "segment-00000002-00000005.parquet", "segment-00000002-00000004.parquet")
    _touch(tmp_path, "segment-00000002.parquet", "journal-00000004.wal", "journal-00000005.wal")
    _touch(tmp_path, "damaged-00000005.wal", "journal-00000007.wal", "damaged-00000009.wal")
    kept = [
        segment_file(tmp_path, 1, 1),
        segment_file(tmp_path, 2, 5),
        journal_file(tmp_path, 7),
    ]
    assert standing(log_files(tmp_path)) == kept
    assert segments(tmp_path) == kept[:2]
    assert last_number(tmp_path) == 9


def test_a_listing_that_missed_both_the_journal_and_its_segment_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "segment-00000001.parquet", "segment-00000002.parquet")
    listdir = os.listdir

    def torn() -> Iterator[list[str]]:
        yield ["segment-00000001.parquet"]
        while True:
            yield listdir(tmp_path)

    listings = torn()
    monkeypatch.setattr(os, "listdir", lambda _: next(listings))
    assert last_number(tmp_path) == 2

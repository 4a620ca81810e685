import errno
from pathlib import Path

import pytest

from core.faults import disk_remedy, explain


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 3 TiB"), "out of memory (Unable to allocate 3 TiB): close other"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: No space left on device: free"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: Read-only file system: make it writable"),
    ],
)
def test_a_common_cause_comes_with_its_remedy(error: Exception, said: str, tmp_path: Path) -> None:
    assert explain(error, tmp_path).startswith(said)
    assert not list(tmp_path.iterdir())


def test_any_other_fault_is_one_line_and_keeps_its_traceback(tmp_path: Path) -> None:
    try:
        {}["no such key"]
    except KeyError as error:
        said = explain(error, tmp_path / "var")
    assert said == f"unexpected KeyError ('no such key'): report it with {tmp_path / 'var/traceback.txt'}"
    assert "test_faults.py" in (tmp_path / "var/traceback.txt").read_text()


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    said = explain(ValueError("x"), tmp_path / "var")
    Path(said.rpartition(" ")[2]).unlink()


def test_the_message_of_another_program() -> None:
    assert disk_remedy("unexpected error - [Errno 28] No space left on device").startswith("free space")
    assert disk_remedy("unexpected error - [Errno 2] No such file") == ""

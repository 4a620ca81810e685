import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ArtifactError
from core.files import (
    canonical_json,
    directory_hashes,
    exclusive_lock,
    read_json,
    replace_directory,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)


def test_write_replaces_whole_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    write_bytes(target, b"old")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["file.bin"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    write_bytes(target, b"old")
    with pytest.raises(TypeError):
        write_bytes(target, "text")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_canonical_json_ignores_key_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": [1.5], "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"é": [1, None]})
    assert read_json(tmp_path / "x.json") == {"é": [1, None]}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_bad_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.json"):
        read_json(path)


def test_missing_files_are_artifact_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        sha256_file(tmp_path / "none.json")


def test_directory_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("old", "new"):
        with replace_directory(target) as fresh:
            (fresh / "sub").mkdir()
            (fresh / "sub" / text).write_text(text)
    assert directory_hashes(target) == {"sub/new": sha256_bytes(b"new")}
    assert os.listdir(tmp_path) == ["out"]


def test_failed_replacement_keeps_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replace_directory(target) as fresh:
        (fresh / "good").write_text("good")
    with pytest.raises(RuntimeError), replace_directory(target) as fresh:
        (fresh / "bad").write_text("bad")
        raise RuntimeError
    assert os.listdir(target) == ["good"]
    assert os.listdir(tmp_path) == ["out"]


def test_lock_is_seen_by_another_process_and_freed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    probe = (
        "import sys; from pathlib import Path; from core.files import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), wait=False) as mine: print(mine)"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", probe, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()

    with exclusive_lock(path) as mine:
        assert mine
        assert other() == "False"
    assert other() == "True"

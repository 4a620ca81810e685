import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dvc_lock import release_dead


@pytest.fixture
def rwlock(tmp_path: Path) -> Path:
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_locks_of_dead_processes_are_released(rwlock: Path, dead: int, tmp_path: Path) -> None:
    entry = {"pid": dead, "cmd": "dvc repro"}
    rwlock.write_text(json.dumps({"data/store/train": {"write": entry}, "core": {"read": [entry]}}))
    release_dead(tmp_path)
    assert not rwlock.exists()


def test_a_living_holder_keeps_its_lock(rwlock: Path, dead: int, tmp_path: Path) -> None:
    alive = {"pid": os.getpid(), "cmd": "dvc repro"}
    rwlock.write_text(json.dumps({"a": {"write": {"pid": dead, "cmd": ""}}, "b": {"read": [alive]}}))
    release_dead(tmp_path)
    assert rwlock.exists()


@pytest.mark.parametrize("torn", ["", '{"a": {"wri', "[]"])
def test_a_torn_lock_file_is_removed(rwlock: Path, torn: str, tmp_path: Path) -> None:
    rwlock.write_text(torn)
    release_dead(tmp_path)
    assert not rwlock.exists()


def test_no_lock_file_is_fine(tmp_path: Path) -> None:
    release_dead(tmp_path)

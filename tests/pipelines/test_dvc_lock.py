import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from pipelines.dvc_lock import release_dead, set_aside_damaged


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


@pytest.mark.parametrize("torn", ["", "schema: '2.0'\nsta", "schema: '2.0'\nstages:\n  a: {b", "- 1"])
def test_a_torn_dvc_lock_is_set_aside(tmp_path: Path, torn: str) -> None:
    (tmp_path / "dvc.lock").write_text(torn)
    set_aside_damaged(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()
    assert (tmp_path / "var" / "dvc.lock.damaged").read_text() == torn


def test_a_whole_dvc_lock_stays(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    set_aside_damaged(tmp_path)
    assert (tmp_path / "dvc.lock").exists()


def test_a_dvc_lock_that_another_dvc_may_be_writing_stays(rwlock: Path, tmp_path: Path) -> None:
    rwlock.write_text("{}")
    (tmp_path / "dvc.lock").write_text("")
    set_aside_damaged(tmp_path)
    assert (tmp_path / "dvc.lock").exists()


def test_a_merge_is_left_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n")
    with pytest.raises(ConfigurationError, match="both sides of a merge"):
        set_aside_damaged(tmp_path)

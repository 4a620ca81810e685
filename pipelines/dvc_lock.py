"""What a killed DVC process leaves behind, and what would stop every later one."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigurationError


def release_dead(root: Path) -> None:
    """Remove `.dvc/tmp/rwlock` when no process that it names is alive (or it was cut off while written).

    Call it while no DVC of ours runs here: DVC itself only says that the file may be deleted by hand.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        holders = _holders(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError):
        holders = set()
    if not any(_alive(pid) for pid in holders):
        path.unlink(missing_ok=True)


def set_aside_damaged(root: Path) -> None:
    """Move a dvc.lock that was cut off while written to var/: DVC then takes outputs from its run cache.

    One with the marks of a merge is left: which side is right is a person's decision. Call it after
    `release_dead`: a DVC that still holds locks may be writing the file.
    """
    path = root / "dvc.lock"
    if (root / ".dvc" / "tmp" / "rwlock").exists():
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        tree = yaml.safe_load(text)
    except FileNotFoundError:
        return
    except yaml.YAMLError:
        tree = None
    if "<<<<<<<" in text:
        raise ConfigurationError(
            f"{path} holds both sides of a merge: `git checkout --ours dvc.lock` and run"
        )
    if not isinstance(tree, dict) or not isinstance(tree.get("stages"), dict):
        (root / "var").mkdir(exist_ok=True)
        os.replace(path, root / "var" / "dvc.lock.damaged")


def _holders(locks: dict[str, dict[str, Any]]) -> set[int]:
    """Process ids in {path: {"write": {"pid"}, "read": [{"pid"}]}}."""
    entries = [lock for held in locks.values() for lock in (held.get("write"), *held.get("read", [])) if lock]
    return {int(entry["pid"]) for entry in entries}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

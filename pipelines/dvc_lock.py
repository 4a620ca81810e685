"""Locks that a killed DVC process leaves behind, and that would stop every later one."""

import json
import os
from pathlib import Path
from typing import Any


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

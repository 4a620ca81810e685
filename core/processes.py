"""Finding and ending processes by a mark in their environment, which every descendant inherits.

Unlike a process group, the mark also finds those that lead a session of their own, and whatever a killed
parent left behind.
"""

import os
import signal
from collections.abc import Iterable
from time import monotonic

import psutil

from core.errors import ServiceError

_KILL_SECONDS = 5.0


def environment_of(process: psutil.Process) -> dict[str, str]:
    """A process's environment; empty when it is gone or another user's."""
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):
        return {}


def marked(variable: str, prefix: str) -> list[psutil.Process]:
    """Live processes whose `variable` is `prefix` or starts with `prefix` + ":"; never this one."""
    found = []
    for process in psutil.process_iter():
        mark = environment_of(process).get(variable, "")
        if process.pid != os.getpid() and (mark == prefix or mark.startswith(f"{prefix}:")):
            found.append(process)
    return found


def end_marked(variable: str, prefix: str, seconds: float = 5.0) -> int:
    """End every process that carries a mark: SIGTERM, a bounded wait, SIGKILL. Returns how many."""
    ended: set[int] = set()
    polite = monotonic() + seconds
    while left := marked(variable, prefix):
        ended.update(process.pid for process in left)
        _signal(left, signal.SIGTERM if monotonic() < polite else signal.SIGKILL)
        psutil.wait_procs(left, timeout=min(seconds, 0.5))
        if monotonic() > polite + _KILL_SECONDS:
            raise ServiceError(f"processes {sorted(p.pid for p in left)} do not end: kill them by hand")
    return len(ended)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue

"""One JSON line per request, written away from the request's path."""

import time
from collections import deque
from pathlib import Path
from typing import Any

import structlog

ROTATE_BYTES = 50 * 1024 * 1024


class AccessLog:
    """Collects requests in memory and writes them when drained.

    A request costs one append to a bounded queue. When the queue is full the oldest lines are dropped and
    counted. Paths are logged without their query, headers never, so no secret reaches the file.
    """

    def __init__(self, path: Path, *, capacity: int = 20_000) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._capacity = path, capacity
        self._queue: deque[tuple[float, str, str, int, float]] = deque()
        self._dropped = 0

    def add(self, method: str, path: str, status: int, milliseconds: float) -> None:
        """Note one answered request."""
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append((time.time(), method, path, status, milliseconds))

    def drain(self) -> None:
        """Write what was collected; called from a thread, now and then."""
        if not self._queue:
            return
        self._rotate()
        with self._path.open("a", encoding="utf-8") as file:
            logger = structlog.wrap_logger(
                structlog.WriteLogger(file), processors=[structlog.processors.JSONRenderer()]
            )
            self._write(logger)

    def _write(self, logger: Any) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            logger.warning("access_log_dropped", lines=dropped)
        while self._queue:
            when, method, path, status, milliseconds = self._queue.popleft()
            shown = {"timestamp": round(when, 3), "method": method, "path": path[:300], "status": status}
            logger.info("request", **shown, ms=round(milliseconds, 3))

    def _rotate(self) -> None:
        if self._path.exists() and self._path.stat().st_size > ROTATE_BYTES:
            self._path.replace(self._path.with_name(self._path.name + ".1"))

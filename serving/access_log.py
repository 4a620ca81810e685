"""One JSON line per request, written away from the request's path."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from serving.http import Request

ROTATE_BYTES = 50 * 1024 * 1024
HIDDEN = "***"


# when, client, method, path, status, milliseconds, request id
_Line = tuple[float, str, str, str, int, float, bytes]


class AccessLog:
    """Collects requests in memory and writes them when drained.

    A request costs one append to a bounded queue. When the queue is full the oldest lines are dropped and
    counted. Paths are logged without their query and headers never, but for the request id; wherever one of
    `secrets` still appears, in a path or an id, it is replaced by asterisks.
    """

    def __init__(self, path: Path, *, capacity: int = 20_000, secrets: Sequence[str] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._capacity, self._secrets = path, capacity, tuple(s for s in secrets if s)
        self._queue: deque[_Line] = deque()
        self._dropped = 0

    def add(self, request: Request, status: int, milliseconds: float) -> None:
        """Note one answered request."""
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(
            (time.time(), request.client, request.method, request.path, status, milliseconds, request.id)
        )

    def drain(self) -> None:
        """Write what was collected; called from a thread, now and then."""
        if not self._queue:
            return
        self._rotate()
        dropped, self._dropped = self._dropped, 0
        lines = [msgspec.json.encode({"event": "access_log_dropped", "lines": dropped})] if dropped else []
        while self._queue:
            lines.append(self._encoded(self._queue.popleft()))
        with self._path.open("ab") as file:
            file.write(b"\n".join(lines) + b"\n")

    def _encoded(self, line: _Line) -> bytes:
        when, client, method, path, status, milliseconds, request_id = line
        return msgspec.json.encode(
            {
                "event": "request",
                "timestamp": round(when, 3),
                "request_id": self._hidden(request_id.decode("ascii", "replace")),
                "client": client,
                "method": method,
                "path": self._hidden(path)[:300],
                "status": status,
                "ms": round(milliseconds, 3),
            }
        )

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        # what unquoting a path can leave behind and UTF-8 cannot hold
        return text.encode("utf-8", "replace").decode()

    def _rotate(self) -> None:
        if self._path.exists() and self._path.stat().st_size > ROTATE_BYTES:
            self._path.replace(self._path.with_name(self._path.name + ".1"))

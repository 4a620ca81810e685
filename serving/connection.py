"""One client connection: uvicorn's HTTP over httptools, with an end to every kind of stalling.

uvicorn waits for ever for a request's head, and for a client that does not read; it answers malformed HTTP
and too many connections in plain text. Nothing here runs per request but a few comparisons: a sweep once a
second looks at every connection instead of a timer for each.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http import Limits

DRAINED_BYTES = 64 * 1024
_LINES = {400: b"400 Bad Request", 408: b"408 Request Timeout", 431: b"431 Request Header Fields Too Large"}
_LINES[503] = b"503 Service Unavailable"


def refusal(status: int, message: str) -> bytes:
    """A whole answer for a connection that has no request yet: JSON, and the connection ends."""
    body = msgspec.json.encode({"error": message})
    again = b"retry-after: 1\r\n" if status == 503 else b""
    head = (
        b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n"
    )
    return head % (_LINES[status], len(body), again) + body


class Connection(HttpToolsProtocol):
    """A connection that ends when its client stalls; `limits` is set by `with_limits`."""

    limits: Limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since: float | None = time.monotonic()
        self._head_bytes = 0
        if len(self.connections) > self.limits.connections:
            self._refuse(503, f"{self.limits.connections} connections are open, the limit: try again later")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head(len(data))

    def on_headers_complete(self) -> None:
        self._head_since, self._head_bytes = None, 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """The bytes are not HTTP: say so, unless an answer is already on its way."""
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(400, "this is not a valid HTTP request")
        else:
            self.transport.close()

    def stalled(self, now: float) -> bool:
        """True when the head of a request has been awaited too long."""
        return self._head_since is not None and now - self._head_since > self.limits.head_seconds

    def cut(self) -> None:
        """End a connection whose request never came whole."""
        if not self.transport.is_closing():
            self._refuse(408, f"the request's head did not arrive within {self.limits.head_seconds:g} s")

    def _await_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_since is None:
            self._head_since = time.monotonic()
        if self._head_bytes > self.limits.head_bytes and not self.transport.is_closing():
            self._refuse(431, f"the request's head is over {self.limits.head_bytes} bytes")

    def _refuse(self, status: int, message: str) -> None:
        self.transport.write(refusal(status, message))
        self.transport.close()


def with_limits(limits: Limits) -> type[Connection]:
    """The connection class for these limits: uvicorn makes the instances."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


class Sweep:
    """Ends connections that wait for a head too long, or whose client does not read what was sent.

    A client must empty the buffer, or take 64 KiB of it, every `limits.write_seconds`; a WebSocket too.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unsent: dict[Any, tuple[float, int]] = {}

    def run(self, connections: Iterable[Any], now: float) -> None:
        """Look at every connection; called about once a second. `now` is monotonic seconds."""
        unsent: dict[Any, tuple[float, int]] = {}
        for connection in list(connections):
            transport = getattr(connection, "transport", None)
            if transport is None:
                continue
            if isinstance(connection, Connection) and connection.stalled(now):
                connection.cut()
            size = transport.get_write_buffer_size()
            if size:
                since, before = self._unsent.get(connection, (now, size))
                if size <= before - DRAINED_BYTES:
                    since, before = now, size
                if now - since > self._limits.write_seconds:
                    _reset(transport)
                else:
                    unsent[connection] = (since, before)
        self._unsent = unsent


def _reset(transport: asyncio.Transport) -> None:
    # without lingering the peer is told at once, and the kernel drops what it would not read
    bound = transport.get_extra_info("socket")
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()

"""httpx over a connection in this process: bytes of requests in, bytes of answers out, no socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import httptools
import httpx
import uvicorn
from uvicorn.server import ServerState

from serving.app import App
from serving.connection import Connection, Sweep, connections
from serving.http import Limits


class Pipe(asyncio.Transport):
    """What a connection is told to do; `written` so far."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 1)})
        self.written, self.closed, self.reading = bytearray(), False, True
        self.changed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data
        self.changed.set()

    def close(self) -> None:
        self.closed = True
        self.changed.set()

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


def open_connection(app: App, limits: Limits | None = None) -> tuple[Connection, Pipe]:
    """A connection, accepted, with limits of its own or the application's."""
    config = uvicorn.Config(app, log_config=None, ws="none")  # type: ignore[arg-type]
    connection, pipe = connections(app, limits or app.limits)(config, ServerState(), {}), Pipe()
    connection.connection_made(pipe)
    return connection, pipe


class Answer:
    """One answer out of bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body, self.whole = b"", False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


class Wire(httpx.AsyncBaseTransport):
    """Each request over a connection of its own, swept often, as a server does each second."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection, pipe = open_connection(self._app)
        head = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        head += [b"%s: %s" % pair for pair in request.headers.raw]
        connection.data_received(b"\r\n".join([*head, b"", b""]))
        chunked = b"transfer-encoding" in {name.lower() for name, _ in request.headers.raw}
        sending = asyncio.create_task(_send(connection, request.stream, chunked))  # type: ignore[arg-type]
        sweep, answer, fed = Sweep(self._app.limits), Answer(), 0
        while not answer.whole:
            pipe.changed.clear()
            answer.feed(bytes(pipe.written[fed:]))
            fed = len(pipe.written)
            if not answer.whole:
                assert not pipe.closed, "the connection ended without an answer"
                with suppress(TimeoutError):
                    await asyncio.wait_for(pipe.changed.wait(), 0.1)
                sweep.run([connection], time.monotonic())
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        connection.connection_lost(None)
        return httpx.Response(answer.status, headers=answer.headers, content=_Raw(answer.body))


class _Raw(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


async def _send(connection: Connection, stream: httpx.AsyncByteStream, chunked: bool) -> None:
    async for part in stream:
        if part:
            connection.data_received(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
    if chunked:
        connection.data_received(b"0\r\n\r\n")


def run(app: App, call: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """What `call` makes of a client whose every request goes to `app`."""

    async def inside() -> Any:
        async with httpx.AsyncClient(transport=Wire(app), base_url="http://test") as client:
            return await call(client)

    return asyncio.run(inside())

"""What odd or hostile clients send: one answer per request, and no more memory than was let in."""

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from serving.app import App
from serving.http import Request, Response, answer
from serving.plane import Plane
from tests.serving.wire import Answer, Pipe, open_connection

CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def app(new_plane: Callable[[Path], Plane], bundle: Path) -> App:
    return App(new_plane(bundle))


def _said(app: App, raw: bytes, passes: int = 3) -> Pipe:
    async def inside() -> Pipe:
        connection, pipe = open_connection(app)
        connection.data_received(raw)
        for _ in range(passes):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return pipe

    return asyncio.run(inside())


def test_the_rest_of_a_refused_body_is_not_answered_too(app: App) -> None:
    written = _said(app, b"POST /nope HTTP/1.1\r\n" + CHUNKED + b"zz\r\n").written
    assert written.startswith(b"HTTP/1.1 404")
    assert written.count(b"HTTP/1.1") == 1


def test_a_large_answer_that_hardly_packs_is_packed_once(app: App) -> None:
    noise = np.random.default_rng(0).integers(0, 1 << 62, 40_000).tolist()

    def big(request: Request) -> Response:
        return answer(noise)

    app._router.add("GET", "/big", big)

    async def inside() -> Answer:
        connection, pipe = open_connection(app)
        connection.data_received(b"GET /big HTTP/1.1\r\naccept-encoding: gzip\r\n\r\n")
        await asyncio.wait_for(pipe.changed.wait(), 5)
        found = Answer()
        found.feed(bytes(pipe.written))
        connection.connection_lost(None)
        return found

    found = asyncio.run(inside())
    assert [value for name, value in found.headers if name == b"content-encoding"] == [b"gzip"]
    assert len(found.body) > 128 * 1024
    assert msgspec.json.decode(gzip.decompress(found.body)) == noise


def test_a_probe_with_a_large_body_is_refused_before_it_is_read(app: App) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\n"
    assert _said(app, head + b"content-length: 8000000\r\n\r\n").written.startswith(b"HTTP/1.1 413")
    assert _said(app, head + CHUNKED).written.startswith(b"HTTP/1.1 413")
    assert _said(app, head + b"content-length: 2\r\n\r\n{}").written.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("token", "status"), [(None, 400), ("secret", 401)])
def test_a_body_behind_others_is_let_in_before_the_rest_of_it_is_read(
    app: App, token: str | None, status: int
) -> None:
    one = b"POST /v1/bars HTTP/1.1\r\nauthorization: Bearer secret\r\ncontent-length: 2\r\n\r\n{}"
    last = b"POST /v1/bars HTTP/1.1\r\ncontent-length: 100000\r\n\r\n"
    if token:
        app.guard._token = token.encode()

    async def inside() -> bytes:
        first, pipe = open_connection(app)
        first._server.connections.add(object())  # type: ignore[arg-type]  # not alone: answers wait
        first.data_received(one * 2 + last)
        assert len(first._line) == 1
        for _ in range(5):
            await asyncio.sleep(0)
        assert app.guard._buffered == (0 if token else 100_000)
        assert pipe.closed == bool(token)
        first.data_received(b" " * 100_000)
        for _ in range(3):
            await asyncio.sleep(0)
        first.connection_lost(None)
        return bytes(pipe.written)

    statuses = [int(part[:3]) for part in asyncio.run(inside()).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [400, 400, status]
    assert (app.guard._running, app.guard._buffered) == (0, 0)


def test_small_chunks_and_trailers_cost_their_bytes(app: App) -> None:
    async def inside() -> None:
        connection, _ = open_connection(app)
        connection.data_received(b"POST /v1/bars HTTP/1.1\r\n" + CHUNKED + b"2\r\nab\r\n" * 1000 + b"0\r\n")
        assert bytes(connection._body) == b"ab" * 1000
        connection.data_received(b"x: %s\r\n" % (b"y" * 50_000) * 10)
        assert sum(len(value) for _, value in connection._headers) < 100
        connection.connection_lost(None)

    asyncio.run(inside())


def test_a_client_of_http_1_0_is_not_told_to_continue(app: App) -> None:
    head = b"POST /v1/bars HTTP/1.0\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    assert not _said(app, head).written


def test_a_websocket_behind_a_request_does_not_cost_that_its_answer(app: App) -> None:
    first = b"POST /v1/bars HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    behind = b"GET /v1/stream HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"

    async def inside() -> Pipe:
        connection, pipe = open_connection(app)
        connection._server.connections.add(object())  # type: ignore[arg-type]  # not alone: answers wait
        connection.data_received(first + behind)
        await asyncio.sleep(0.01)
        connection.connection_lost(None)
        return pipe

    pipe = asyncio.run(inside())
    assert pipe.written.count(b"HTTP/1.1 400") == 1
    assert pipe.closed


DATA = b'"shape":[1,1,2],"name":"features","datatype":"FP32"'


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{%s,"data" : []}],"parameters":{"data":[1,2]}}',
        b'{"inputs":[{%s,"data":[1,2],"d\\u0061ta":[]}]}',
        b'{"inputs":[{%s,"data" :[],"x\\"data":[1,2]}]}',
        b'{"inputs":[{%s,"x":{"data":[1,2]},"d\\u0061ta":[]}]}',
    ],
)
def test_numbers_that_are_not_the_tensors_own_are_not_taken_for_them(app: App, body: bytes) -> None:
    body = body % DATA
    head = b"POST /v2/models/sp500-1d/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    written = _said(app, head + body).written
    assert b"has 0 values" in written

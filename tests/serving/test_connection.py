"""What odd or hostile clients send: one answer per request, and no more memory than was let in."""

import asyncio
import gzip
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from serving.access_log import AccessLog
from serving.app import App
from serving.connection import Heads
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


def test_the_access_log_has_requests_in_the_order_of_their_answers(
    new_plane: Callable[[Path], Plane], bundle: Path, tmp_path: Path
) -> None:
    log = AccessLog(tmp_path / "access.jsonl")
    app = App(new_plane(bundle), access_log=log)

    async def slow(request: Request) -> Response:
        await asyncio.sleep(0)
        return answer("slow")

    app._router.add("GET", "/slow", slow)
    said = _said(app, b"GET /slow HTTP/1.1\r\n\r\nGET /v2 HTTP/1.1\r\n\r\nGET /ping HTTP/1.1\r\n\r\n")
    assert said.written.count(b"HTTP/1.1 200") == 3
    log.drain()
    lines = map(msgspec.json.decode, (tmp_path / "access.jsonl").read_text().splitlines())
    assert [line["path"] for line in lines] == ["/slow", "/v2", "/ping"]


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


INFER = "/v2/models/sp500-1d/infer"
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


@pytest.mark.parametrize(
    ("path", "body"),
    [
        # no text, no name, no key: what stands for numbers must be no better than they are
        (INFER, b'{"x":"data","id":[1],"inputs":[{%s,"data":[1,2]}]}' % DATA),
        (INFER, b'{"x":"data","outputs":[{"name":[1]}],"inputs":[{%s,"data":[1,2]}]}' % DATA),
        (INFER, b'{"x":"data",[1]:2,"inputs":[{%s,"data":[1,2]}]}' % DATA),
        ("/invocations", b'{"inputs":{[1]:[2]}}'),
        ("/invocations", b'{"dataframe_split":{"x":"data","columns":[1],"data":[[2]]}}'),
    ],
)
def test_a_list_of_numbers_where_none_belongs_is_refused_as_a_list(app: App, path: str, body: bytes) -> None:
    ((status, said),) = _answers(app, [_ask(path, body)])
    assert status == 400
    assert b"body is not what is expected" in said
    assert b"numbers " not in said


@pytest.mark.parametrize("ahead", [b"", b"GET /v1/later HTTP/1.1\r\n\r\n"])
def test_a_refused_body_with_others_around_it_does_not_keep_its_connection(app: App, ahead: bytes) -> None:
    async def later() -> Response:
        await asyncio.sleep(0.01)
        return answer({})

    app._router.add("GET", "/v1/later", lambda request: later())

    async def inside() -> tuple[bytes, bool, bool]:
        connection, pipe = open_connection(app)
        pipe.can_write_eof, pipe.write_eof = lambda: True, lambda: None  # type: ignore[method-assign]
        connection.data_received(ahead + _ask("/nope", b"{}") + _ask("/v2/health/live", method="GET"))
        await asyncio.sleep(0.05)
        reading = pipe.reading
        connection.cut(time.monotonic() + app.limits.linger_seconds + 1)
        return bytes(pipe.written), reading, pipe.closed

    written, reading, closed = asyncio.run(inside())
    assert written.endswith(b'see /openapi.json"}')
    assert reading
    assert closed


def _ask(path: str, body: bytes = b"", *, method: str = "POST", more: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    return head + more + b"\r\n" + body


def _window(value: float) -> bytes:
    data = ",".join([repr(value)] * 356)
    return f'{{"inputs":[{{"name":"features","shape":[1,4,89],"datatype":"FP32","data":[{data}]}}]}}'.encode()


REPEATED = [
    *(_ask(INFER, _window(value)) for value in (0.25, 0.75, 0.25)),
    *(_ask("/v1/signal/sp500", method="GET") for _ in range(3)),
    *(_ask("/v1/signal/sp500?timeframe=1d", method="GET") for _ in range(2)),
    *(_ask(INFER, body) for body in (b"{}", b"[]", b"{}")),
    *(_ask("/v2/health/live", method="GET", more=b"x-request-id: mine\r\n") for _ in range(2)),
    # one that holds another, and two in one piece
    _ask(INFER, _ask("/v2/health/live", method="GET")),
    _ask(INFER, _ask("/v2/health/live", method="GET")),
    _ask("/v2/health/live", method="GET") * 2,
    _ask("/v2/health/live", method="GET"),
    _ask("/v1/signal/%73p500", method="GET"),
    _ask(INFER, _window(0.5)),
]


def _answers(app: App, pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """Status and body of each answer, without what differs from one time to the next."""

    async def inside() -> bytes:
        connection, pipe = open_connection(app)
        for piece in pieces:
            connection.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
        assert not pipe.closed
        connection.connection_lost(None)
        return bytes(pipe.written)

    parts = asyncio.run(inside()).split(b"HTTP/1.1 ")[1:]
    bodies = (part.partition(b"\r\n\r\n")[2] for part in parts)
    return [
        (int(part[:3]), re.sub(rb'"latency_ms":[0-9.e-]+', b"", body))
        for part, body in zip(parts, bodies, strict=True)
    ]


def test_a_head_that_came_before_is_answered_as_when_it_is_parsed(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[bool] = []
    look = Heads.whole

    def whole(heads: Heads, data: bytes, client: str) -> Request | None:
        found = look(heads, data, client)
        known.append(found is not None)
        return found

    monkeypatch.setattr(Heads, "whole", whole)
    repeated = _answers(app, REPEATED)
    # each kind is parsed the first time; two in one piece are not one
    assert known == [digit == "1" for digit in "0110110101101010000"]
    monkeypatch.setattr(Heads, "whole", lambda heads, data, client: None)
    assert repeated == _answers(app, REPEATED)
    raw = b"".join(REPEATED)
    monkeypatch.setattr(Heads, "whole", look)
    assert repeated == _answers(app, [raw[at : at + 97] for at in range(0, len(raw), 97)])


def test_what_a_known_head_may_is_asked_every_time(app: App) -> None:
    raw = _ask("/v1/signal/sp500", method="GET", more=b"authorization: Bearer first\r\n")

    async def inside() -> list[bytes]:
        found = []
        for token in (b"first", b"second"):
            app.guard._token = token
            for _ in range(2):
                connection, pipe = open_connection(app)
                connection.heads = heads
                connection.data_received(raw)
                found.append(bytes(pipe.written[9:12]))
                connection.connection_lost(None)
        return found

    heads = Heads()
    assert asyncio.run(inside()) == [b"200", b"200", b"401", b"401"]


def test_heads_are_forgotten_in_the_end(app: App) -> None:
    heads = Heads()
    for number in range(3000):
        raw = _ask(f"/{number}", method="GET")
        heads.learn(raw, Request("GET", f"/{number}", b"", b"", {b"content-length": b"0"}, ""))
    assert len(heads._known) == 1024
    assert heads.whole(_ask("/0", method="GET"), "") is None
    assert heads.whole(_ask("/2999", method="GET"), "") is not None
    long = _ask("/x", method="GET", more=b"x: " + b"y" * 2000 + b"\r\n")
    heads.learn(long, Request("GET", "/x", b"", b"", {}, ""))
    assert heads.whole(long, "") is None

"""The little of HTTP that the service needs, over raw ASGI."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from serving.encoding import WORTHWHILE, choose, compress
from serving.errors import BadRequest, BodyTimeout, BodyTooLarge, MethodNotAllowed, NotFound

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_WALKED = 1024
# packing more than this holds up other requests: a thread does it
_LARGE = 128 * 1024


@dataclass(frozen=True)
class Limits:
    """What a request may cost, and a stream: `backlog` is of signals that wait for one slow reader."""

    body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 5.0
    bars: int = 10_000
    concurrency: int = 512
    connections: int = 2048
    buffered_bytes: int = 256 * 1024 * 1024
    head_bytes: int = 64 * 1024
    head_seconds: float = 5.0
    write_seconds: float = 6.0
    graceful_seconds: int = 5
    keep_alive_seconds: int = 30
    streams: int = 128
    message_bytes: int = 1024 * 1024
    backlog: int = 1024
    ping_seconds: float = 4.0


@dataclass
class Request:
    """A request with its whole body, unpacked; `parameters` are the decoded variable parts of the path."""

    scope: Scope
    body: bytes
    parameters: list[str]

    @cached_property
    def headers(self) -> dict[bytes, bytes]:
        """By lower-case name; of one sent twice, the last."""
        return dict(self.scope["headers"])

    def query(self, name: str) -> str | None:
        """A parameter of the query by name; None when it is not given or empty, BadRequest for too many."""
        given: bytes = self.scope.get("query_string", b"")
        try:
            found = parse_qs(given.decode("ascii", "replace"), max_num_fields=16).get(name) if given else None
        except ValueError:
            raise BadRequest("the query has more than 16 parameters") from None
        return found[0] if found else None

    def decode(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The body as strict JSON: no NaN or Infinity, no bool for a number; BadRequest otherwise."""
        return decode(self.body, decoder)


@dataclass
class Response:
    """An answer; `body` is sent as it is."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


Handler = Callable[[Request], Awaitable[Response]]


def decode(data: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]") -> T:
    """Strict JSON; BadRequest says what is wrong and where."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what is expected: {error}") from error
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return _encoder.encode(value)


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, _encoder.encode(value))


async def packed(response: Response, request: Request) -> Response:
    """The answer compressed, when it is large enough to be worth it and the client accepts that."""
    if len(response.body) < WORTHWHILE:
        return response
    encoding = choose(request.headers.get(b"accept-encoding", b""))
    if encoding is not None:
        large = len(response.body) > _LARGE
        response.body = (
            await asyncio.to_thread(compress, response.body, encoding)
            if large
            else compress(response.body, encoding)
        )
        response.headers += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
    return response


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """The whole body; BodyTooLarge over the limit, BodyTimeout when it stalls."""
    task, deadline = asyncio.current_task(), _Deadline()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(limits.body_seconds, deadline.expire, task)
    try:
        return await _received(receive, limits.body_bytes)
    except asyncio.CancelledError:
        if deadline.expired and task.uncancel() == 0:
            raise BodyTimeout(
                f"the body did not arrive within {limits.body_seconds:g} s: send it again"
            ) from None
        raise
    finally:
        timer.cancel()


class _Deadline:
    """What asyncio.timeout does, in a third of its time: it is part of every request."""

    expired = False

    def expire(self, task: "asyncio.Task[Any]") -> None:
        self.expired = True
        task.cancel()


async def _received(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away before its body arrived")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes: send fewer bars per request")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


@dataclass
class _Node:
    children: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    handlers: dict[str, tuple[str, Handler]] = field(default_factory=dict)


class Router:
    """Paths of fixed and variable segments: "/v2/models/{model}/infer"."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, str]] = []
        self._root = _Node()
        self._exact: dict[str, _Node] = {}
        # paths with variable parts that were asked for: most clients ask for few, again and again
        self._walked: dict[bytes, tuple[_Node, list[str]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Answer `method` on `pattern` with `handler`."""
        node = self._root
        for segment in pattern.strip("/").split("/"):
            if segment.startswith("{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.children.setdefault(segment, _Node())
        node.handlers[method] = (pattern, handler)
        self.routes.append((method, pattern))
        if "{" not in pattern:
            self._exact[pattern] = node

    def find(self, method: str, path: str, raw_path: bytes) -> tuple[str, Handler, list[str]]:
        """Pattern, handler and variable parts; NotFound or MethodNotAllowed when there is none."""
        known = self._exact.get(path)
        node, parameters = (known, []) if known else self._walked.get(raw_path) or self._walk(raw_path)
        if node is None or not node.handlers:
            raise NotFound(f"path {path[:200]!r} does not exist: see /openapi.json")
        if known is None and len(self._walked) < _WALKED and len(raw_path) < 200:
            self._walked[raw_path] = node, parameters
        found = node.handlers.get(method)
        if found is None:
            raise MethodNotAllowed(f"{method} {path[:200]}: use {' or '.join(sorted(node.handlers))}")
        return *found, parameters

    def _walk(self, raw_path: bytes) -> tuple[_Node | None, list[str]]:
        node: _Node | None = self._root
        parameters = []
        for segment in raw_path.decode("ascii", "replace").split("?")[0].strip("/").split("/"):
            text = unquote(segment, errors="replace")
            if node is None:
                break
            if text in node.children:
                node = node.children[text]
            else:
                node = node.variable
                parameters.append(text)
        return node, parameters

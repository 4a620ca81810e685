"""The little of HTTP that the service needs: requests, answers, limits, paths."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from serving.encoding import WORTHWHILE, choose, compress
from serving.errors import BadRequest, MethodNotAllowed, NotFound

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
    """What a request may cost, and a stream.

    The rest of a refused body is dropped for `linger_seconds`. `backlog` is of signals that wait for one slow
    reader.
    """

    body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 5.0
    bars: int = 10_000
    concurrency: int = 512
    connections: int = 2048
    buffered_bytes: int = 256 * 1024 * 1024
    head_bytes: int = 64 * 1024
    head_seconds: float = 5.0
    write_seconds: float = 6.0
    linger_seconds: float = 2.0
    graceful_seconds: int = 5
    keep_alive_seconds: int = 30
    streams: int = 128
    message_bytes: int = 1024 * 1024
    backlog: int = 1024
    ping_seconds: float = 4.0


class Request(msgspec.Struct):
    """A request; its body is whole and unpacked when a handler sees it.

    Headers are by lower-case name, of one sent twice the last. `route` is the pattern that the path fits and
    `parameters` the decoded variable parts of it, both known with the `handler`. `admitted` is what the guard
    wants back. The body is `text` from `start` on: a head that came along is not cut off.
    """

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Mapping[bytes, bytes]
    client: str
    id: bytes = b""
    text: bytes = b""
    start: int = 0
    route: str = "unknown"
    handler: "Handler | None" = None
    parameters: list[str] = []
    admitted: int = -1
    started: float = msgspec.field(default_factory=time.perf_counter)

    @property
    def body(self) -> bytes:
        """What was sent, without its head."""
        return self.text[self.start :] if self.start else self.text

    def query(self, name: str) -> str | None:
        """A parameter of the query by name; None when it is not given or empty, BadRequest for too many."""
        given = self.query_string
        try:
            found = parse_qs(given.decode("ascii", "replace"), max_num_fields=16).get(name) if given else None
        except ValueError:
            raise BadRequest("the query has more than 16 parameters") from None
        return found[0] if found else None

    def decode(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The body as strict JSON: no NaN or Infinity, no bool for a number; BadRequest otherwise."""
        return decode(self.body, decoder)


class Response(msgspec.Struct):
    """An answer; `body` is sent as it is. With `close` the connection ends after it."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = []
    close: bool = False


Found = Response | Awaitable[Response] | Exception
"""An answer, what becomes one, or why there is none."""


@dataclass(frozen=True)
class Together:
    """Answers all requests of its path that one turn of the event loop has brought, in order.

    One call of the graph and one write for all of them cost little more than for one.
    """

    answer: Callable[[list[Request]], Sequence[Found]]


Handler = Callable[[Request], Response | Awaitable[Response]] | Together
"""What answers a request: at once where it can, which spares a task."""


def decode(data: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]") -> T:
    """Strict JSON; BadRequest says what is wrong and where."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        parsed = isinstance(error, msgspec.ValidationError)
        not_json = not parsed and any(word in bytes(data) for word in (b"NaN", b"Infinity"))
        hint = "; NaN and Infinity are not JSON: a missing feature is null, no bar lacks a number"
        raise BadRequest(f"the body is not what is expected: {error}{hint if not_json else ''}") from error
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return _encoder.encode(value)


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, _encoder.encode(value))


def packed(response: Response, request: Request) -> Response | Awaitable[Response]:
    """The answer compressed, when it is large enough to be worth it and the client accepts that."""
    if len(response.body) < WORTHWHILE or any(name == b"content-encoding" for name, _ in response.headers):
        return response
    encoding = choose(request.headers.get(b"accept-encoding", b""))
    if encoding is None:
        return response
    response.headers += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
    if len(response.body) > _LARGE:
        return _packed_aside(response, encoding)
    response.body = compress(response.body, encoding)
    return response


async def _packed_aside(response: Response, encoding: bytes) -> Response:
    response.body = await asyncio.to_thread(compress, response.body, encoding)
    return response


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

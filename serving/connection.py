"""One client connection: HTTP/1.1 over httptools, straight to the application, with an end to all stalling.

uvicorn owns the sockets and the signals. Its own connections wait for ever for a head, for a body and for a
client that does not read, and pass every request through a task, an event and four messages, which takes
longer than most answers here. This one hands a whole request to the application, which delivers its answer,
mostly at once. A sweep once a second looks at every connection, instead of a timer for each.
"""

import asyncio
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
import msgspec

from serving.errors import BodyTimeout, BodyTooLarge, ServingError
from serving.http import Limits, Request, Response

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from serving.app import App

DRAINED_BYTES = 64 * 1024
_KNOWN_HEADS, _HEAD_BYTES = 1024, 1024
_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\ncontent-type: " % (status, status.phrase.encode())
    for status in HTTPStatus
}


def refusal(status: int, message: str) -> bytes:
    """A whole answer for a connection that has no request yet: JSON, and the connection ends."""
    again = [(b"retry-after", b"1")] if status == 503 else []
    body = msgspec.json.encode({"error": message})
    return _head(Response(status, body, headers=again, close=True), b"") + body


def _head(response: Response, more: bytes) -> bytes:
    own = b"".join([b"%s: %s\r\n" % pair for pair in response.headers]) if response.headers else b""
    if response.close:
        own += b"connection: close\r\n"
    return b"%s%s\r\ncontent-length: %d\r\n%s%s\r\n" % (
        _LINES[response.status], response.content_type, len(response.body), own, more,
    )  # fmt: skip


class Heads:
    """Requests by the bytes of their heads: a client mostly repeats itself, which need not be parsed again.

    Only heads that say nothing of the connection are kept, the newest 1,024 of up to 1 KiB. What a head is
    allowed is asked for every request.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Request, int]] = {}

    def whole(self, data: bytes, client: str) -> Request | None:
        """The request that these bytes are, when they are just one of a known head; None otherwise."""
        end = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:end])
        if known is None or len(data) - end != known[1]:
            return None
        return _like(known[0], client, data, end)

    def learn(self, data: bytes, request: Request) -> None:
        """Keep the head of a request, when these bytes are that request and nothing else."""
        end, headers = data.find(b"\r\n\r\n") + 4, request.headers
        if end > _HEAD_BYTES or b"transfer-encoding" in headers or b"expect" in headers:
            return
        length = int(headers.get(b"content-length", 0))
        if len(data) - end == length:
            if len(self._known) >= _KNOWN_HEADS:
                del self._known[next(iter(self._known))]
            self._known[data[:end]] = _like(request), length


def _like(one: Request, client: str = "", text: bytes = b"", start: int = 0) -> Request:
    """Another request of the same head."""
    head = one.method, one.path, one.raw_path, one.query_string, one.headers
    return Request(*head, client, b"", text, start, one.route, one.handler, one.parameters)


class Connection(asyncio.Protocol):
    """A connection that ends when its client stalls; what it shares with others is set by `connections`.

    Requests that come before the one ahead of them is answered wait in line, unread beyond what has arrived.
    """

    app: "App"
    limits: Limits
    patience: Mapping[str, float]
    heads: Heads
    _dated: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def __init__(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config, self._server, self._app_state = config, server_state, app_state
        self._parser = httptools.HttpRequestParser(self)
        # what follows a request that closes the connection must not cost that request its answer
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._url, self._headers = b"", list[tuple[bytes, bytes]]()
        # a message has begun and is not complete
        self._within, self._whole = False, b""
        # the request whose body is awaited
        self._request: Request | None = None
        self._body: bytes | bytearray = b""
        # whole requests in line behind the one that is being answered
        self._line: deque[tuple[Request, Response | None, bool]] = deque()
        self._busy = False  # a request is being answered
        self._advancing = False  # the line is being looked through
        self._last_one = False  # the request ends its connection
        self._full = False  # the client does not read
        self._paused = False  # we do not, requests being in line
        self._shutting = False  # the service ends
        self._closing = False  # the connection ends once those in line are answered, and hears no more
        self._unread = False  # what the client still sends of a refused body is dropped
        self._ending = False  # it has ended
        self._head_bytes = 0

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet nobody: the client speaks first, within a time."""
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)  # type: ignore[arg-type]  # it asks for `shutdown` alone
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._await("head")
        if len(self._server.connections) > self.limits.connections:
            self._refuse(503, f"{self.limits.connections} connections are open, the limit: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away; what is being answered is finished all the same."""
        self._server.connections.discard(self)  # type: ignore[arg-type]
        self._ending = True
        self._forget()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests, in any pieces."""
        if self._ending or self._closing:
            return
        whole = None if self._within else self.heads.whole(data, self._client)
        if whole is not None:
            self._take(whole)
            return
        if self._request is None:
            self._head_bytes += len(data)
        # where it begins with a request, that may be all of it
        self._whole = b"" if self._within else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._wants_websocket():
                self._upgrade()
        except httptools.HttpParserCallbackError as fault:
            self.app.report("connection_failed", fault)
            self._end()
        except httptools.HttpParserError:
            if not self._ending:  # answered already: what follows is the rest of a refused body
                self._refuse(400, "this is not a valid HTTP request")
        if self._head_bytes > self.limits.head_bytes and self._awaited == "head" and not self._ending:
            self._refuse(431, f"the request's head is over {self.limits.head_bytes} bytes")

    def pause_writing(self) -> None:
        """The client does not read: no more is answered until it does."""
        self._full = True

    def resume_writing(self) -> None:
        """The client has read."""
        self._full = False
        self._advance()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._headers, self._within = b"", [], True
        if not self._ending:
            self._await("head")

    def on_url(self, url: bytes) -> None:
        """Some of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes after the body says nothing to us, and costs nothing."""
        if self._request is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: let the request in, or refuse it before its body costs anything."""
        self._head_bytes = 0
        if self._ending or self._closing or self._wants_websocket():
            return
        parser = self._parser
        self._last_one = (
            parser.should_upgrade() or parser.get_http_version() == "1.0" or not parser.should_keep_alive()
        )
        try:
            request = self._new_request()
        except httptools.HttpParserInvalidURLError:
            self._refuse(400, "this is not a valid HTTP request")
            return
        self._await("body")
        # one that comes behind others waits at no cost but its bytes, which have arrived already
        self._request, self._body = request, b""
        if not self._line and not self._let_in(request):
            return
        expects = request.headers.get(b"expect", b"").lower() == b"100-continue"
        if expects and self._unanswered == 0 and parser.get_http_version() != "1.0":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        """Some of the body."""
        request = self._request
        if request is None:
            return
        if not self._body:
            self._body = chunk
        else:
            # one buffer: a list of many small chunks would take twenty times their bytes
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk
        if len(self._body) > self.limits.body_bytes:
            limit = f"the body is over {self.limits.body_bytes} bytes: send fewer bars per request"
            self._refuse_request(request, self.app.refuse(request, BodyTooLarge(limit)))

    def on_message_complete(self) -> None:
        """The request is whole."""
        request, self._request, self._within = self._request, None, False
        data, self._whole = self._whole, b""
        if request is None:
            return
        request.text, self._body = bytes(self._body), b""
        if data and not self._last_one:
            self.heads.learn(data, request)
        self._answer(request)

    # --- the server's and the sweep's side

    def shutdown(self) -> None:
        """The server ends: so does the connection, once what has begun is answered."""
        if self._awaited == "end":
            self.transport.close()
        elif self._request is None and self._unanswered == 0:
            self._end()
        else:
            self._shutting = True

    def cut(self, now: float) -> None:
        """End the connection when its client has kept it waiting too long; `now` is monotonic seconds."""
        if now < self._deadline or self._unanswered:
            return
        if self._awaited == "end":
            self.transport.close()
        elif self._ending:
            return
        elif self._awaited == "next":
            self._end()
        elif self._request is None:
            self._refuse(408, f"the request's head did not arrive within {self.limits.head_seconds:g} s")
        else:
            waited = f"the body did not arrive within {self.limits.body_seconds:g} s: send it again"
            self._refuse_request(self._request, self.app.refuse(self._request, BodyTimeout(waited)))

    # --- within

    def _take(self, request: Request) -> None:
        """A whole request that the parser has not seen."""
        self._last_one = False
        if self._line or self._let_in(request):
            self._answer(request)

    def _answer(self, request: Request) -> None:
        self._await("answer")
        self._line.append((request, None, self._last_one))
        self._advance()

    @property
    def _unanswered(self) -> int:
        """Whole requests that are not answered yet."""
        return len(self._line) + self._busy

    def _await(self, what: str) -> None:
        self._awaited, self._deadline = what, time.monotonic() + self.patience[what]

    def _wants_websocket(self) -> bool:
        return (
            self._parser.should_upgrade() and dict(self._headers).get(b"upgrade", b"").lower() == b"websocket"
        )

    def _upgrade(self) -> None:
        """Hand the connection to uvicorn's WebSockets, which read the handshake once more."""
        if self._unanswered or self._ending:
            # no client may send it before its answers: these it gets, and no WebSocket
            self._closing = True
            return
        head = [b"%s %s HTTP/1.1\r\n" % (self._parser.get_method(), self._url)]
        head += [b"%s: %s\r\n" % header for header in self._headers]
        kind = self._config.ws_protocol_class
        assert kind is not None
        other = kind(config=self._config, server_state=self._server, app_state=self._app_state)  # type: ignore[call-arg]
        self._ending = True
        self._server.connections.discard(self)  # type: ignore[arg-type]
        other.connection_made(self.transport)
        other.data_received(b"".join([*head, b"\r\n"]))
        self.transport.set_protocol(other)

    def _new_request(self) -> Request:
        target = httptools.parse_url(self._url)
        raw_path = target.path or b""
        path = raw_path.decode("ascii")
        return Request(
            method=self._parser.get_method().decode("ascii"),
            path=unquote(path) if "%" in path else path,
            raw_path=raw_path,
            query_string=target.query or b"",
            headers=dict(self._headers),
            client=self._client,
        )

    def _advance(self) -> None:
        """Answer what is in line, in order, until an answer has to wait."""
        if self._advancing:
            return
        self._advancing = True
        while self._line and not self._busy and not self._full and not self._ending:
            request, response, last = self._line.popleft()
            self._busy = True
            if response is None and not request.id:
                response = self._admit(request)
            if response is not None:
                self._deliver(request, last, response)
                continue
            alone = len(self._server.connections) == 1
            self.app.answer(request, partial(self._deliver, request, last), alone=alone)
        self._advancing = False
        waiting = self._request
        if waiting is not None and not (waiting.id or self._line or self._ending):
            # nothing is ahead any more: the rest of its body is read only if it is let in
            self._let_in(waiting)
        if bool(self._line) != self._paused and not self._ending:
            self._paused = not self._paused
            (self.transport.pause_reading if self._paused else self.transport.resume_reading)()

    def _deliver(self, request: Request, last: bool, response: Response) -> None:
        self._busy = False
        self._write(request, response, last)
        self._advance()

    def _write(self, request: Request, response: Response, last: bool) -> None:
        if self._ending:
            return
        response.close = response.close or last or ((self._shutting or self._closing) and not self._line)
        head = _head(response, b"x-request-id: %s\r\n%s" % (request.id, self._date()))
        self.transport.write(head + response.body if request.method != "HEAD" else head)
        if response.close:
            self._end()
        elif not self._line:
            # what has begun of the next one was perhaps held up by this one
            self._await("next" if self._awaited == "answer" else self._awaited)

    def _date(self) -> bytes:
        """What uvicorn renews each second."""
        pairs = self._server.default_headers
        if Connection._dated[0] is not pairs:
            Connection._dated = pairs, b"".join([b"%s: %s\r\n" % pair for pair in pairs])
        return Connection._dated[1]

    def _let_in(self, request: Request) -> bool:
        """Whether the body of a request is awaited; else it is refused."""
        response = self._admit(request)
        if response is not None:
            self._refuse_request(request, response)
        return response is None

    def _admit(self, request: Request) -> Response | None:
        """None, or why it is not let in."""
        try:
            self.app.admit(request)
        except ServingError as error:
            return self.app.refuse(request, error)
        return None

    def _refuse_request(self, request: Request, response: Response) -> None:
        """Answer a request whose body stays unread, after those ahead of it; then the connection ends."""
        self._request, self._body = None, b""
        self._unread = True
        self._line.append((request, response, True))
        self._await("answer")
        self._advance()

    def _refuse(self, status: int, message: str) -> None:
        """End a connection over what is no request, or not yet; those ahead of it are answered first."""
        self.app.note_refusal(self._client, status)
        if self._unanswered:
            self._closing = True
            return
        self.transport.write(refusal(status, message))
        self._end()

    def _forget(self) -> None:
        """What waits gets no answer."""
        for request in (self._request, *(waiting for waiting, *_ in self._line)):
            if request is not None:
                self.app.leave(request)
        self._request = None
        self._line.clear()

    def _end(self) -> None:
        self._ending = True
        self._forget()
        if self._unread and self.transport.can_write_eof():
            # closed at once, the kernel would take the answer back from a client that is still sending
            self.transport.write_eof()
            self._await("end")
            if self._paused:
                # neither its body nor its end would be noticed
                self.transport.resume_reading()
        else:
            self.transport.close()


def connections(app: "App", limits: Limits) -> type[Connection]:
    """The class of the connections of one service: uvicorn makes the instances."""
    patience = {
        "head": limits.head_seconds,
        "body": limits.body_seconds,
        "answer": math.inf,
        "next": limits.keep_alive_seconds,
        "end": limits.linger_seconds,
    }
    members = {"app": app, "limits": limits, "patience": patience, "heads": Heads()}
    return type("ServiceConnection", (Connection,), members)


class Sweep:
    """Ends connections whose client keeps them waiting too long, or does not read what was sent.

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
            if isinstance(connection, Connection):
                connection.cut(now)
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

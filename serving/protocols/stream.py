"""WebSocket /v1/stream: bars in, signals out; or subscribe only.

A client sends what POST /v1/bars takes, one message at a time or many: each is answered in order, by what
that request answers, or by {"error", "status"}; the next message is read once the answer before it is on its
way. {"subscribe": ["sp500"]} ("*" is every symbol) and {"unsubscribe": […]} are answered by {"event":
"subscribed", "symbols"}; from then on {"event": "signal", "signal", "dropped"} comes for every signal of
those symbols, whoever sent the bar. A reader too slow for that loses the oldest: `dropped` counts them.
With ?subscribe=sp500,eurusd in the address the connection is for reading only: bars are refused.

The token comes in the handshake, as Authorization: Bearer, or, from a browser, as the two subprotocols
"bearer" and the token itself.
"""

import asyncio
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec

from core.signal import Signal
from serving.errors import BadRequest, NotFound, ServingError, TooManyStreams, UpgradeRequired
from serving.guard import Guard
from serving.http import Limits, Receive, Request, Response, Router, Scope, Send, decode, encode
from serving.plane import Plane
from serving.protocols.bars import Text, read
from serving.subscription import Subscription

PATH = "/v1/stream"
MAX_SYMBOLS = 1024
Symbols = Annotated[list[Text], msgspec.Meta(max_length=MAX_SYMBOLS)]


class StreamControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message that changes what comes; answered by SubscribedEvent."""

    subscribe: Symbols = []
    unsubscribe: Symbols = []


class SubscribedEvent(msgspec.Struct, frozen=True):
    """The symbols subscribed to now."""

    symbols: list[str]
    event: str = "subscribed"


class SignalEvent(msgspec.Struct, frozen=True):
    """A signal of a symbol subscribed to; `dropped` before it were lost since this reader is slow."""

    signal: Signal
    dropped: int
    event: str = "signal"


class _Probe(msgspec.Struct):
    subscribe: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    unsubscribe: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_control = msgspec.json.Decoder(StreamControl)
_probe = msgspec.json.Decoder(_Probe)


def routes(router: Router) -> None:
    """Mount what plain HTTP gets on this path."""

    def get(request: Request) -> Response:
        raise UpgradeRequired(f"{PATH} is a WebSocket: connect to ws://…{PATH}")

    router.add("GET", PATH, get)


def handshake(scope: Scope) -> Request:
    """The handshake as a request, the token of a browser, which cannot set headers, where others have it."""
    client, offered, headers = scope.get("client"), scope.get("subprotocols"), dict(scope["headers"])
    if offered and len(offered) == 2 and offered[0] == "bearer":
        headers[b"authorization"] = b"Bearer " + offered[1].encode("ascii", "replace")
    return Request(
        method="GET",
        path=scope["path"],
        raw_path=scope["raw_path"],
        query_string=scope["query_string"],
        headers=headers,
        client=client[0] if client else "",
    )


class Streams:
    """Every open stream."""

    def __init__(self, plane: Plane, limits: Limits, guard: Guard) -> None:
        self._plane, self._limits, self._guard = plane, limits, guard
        self._open = 0

    async def __call__(self, request: Request, receive: Receive, send: Send) -> int:
        """Serve one connection until either side ends it; the status of its handshake."""
        await receive()
        try:
            asked = self._admit(request)
        except ServingError as error:
            await _refuse(error, send)
            return error.status
        self._open += 1
        try:
            await self._serve(asked, request, receive, send)
        except OSError:
            # uvicorn's way to say that the client went away
            pass
        finally:
            self._open -= 1
        return 101

    def _admit(self, request: Request) -> list[str] | None:
        """The symbols of a connection that only reads; None when it may send bars."""
        self._guard.check_rate(request)
        self._guard.authorise(request)
        if request.path != PATH:
            raise NotFound(f"path {request.path[:200]!r} is not a stream: connect to {PATH}")
        if self._open >= self._limits.streams:
            raise TooManyStreams(f"{self._open} streams are open, the limit: close one, or come back later")
        query = request.query_string.decode("ascii", "replace")
        asked = parse_qs(query, keep_blank_values=True).get("subscribe")
        if asked is None:
            return None
        symbols = asked[0].split(",")
        if len(symbols) > MAX_SYMBOLS or not all(0 < len(symbol) <= 32 for symbol in symbols):
            raise BadRequest(f"subscribe={asked[0][:60]!r}: 1 to {MAX_SYMBOLS} symbols, comma between")
        return symbols

    async def _serve(self, asked: list[str] | None, request: Request, receive: Receive, send: Send) -> None:
        # a browser ends a connection that does not accept one of the subprotocols it offered
        offered = request.headers.get(b"sec-websocket-protocol", b"")
        bearer = "bearer" if offered.startswith(b"bearer") else None
        await send({"type": "websocket.accept", "subprotocol": bearer})
        subscription = Subscription(self._limits.backlog)
        if asked is not None:
            subscription.add(asked)
            await _say(send, SubscribedEvent(sorted(subscription.symbols)))
        self._plane.listeners.add(subscription.offer)
        forwarding = asyncio.create_task(_forward(subscription, send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                body = message.get("bytes") or (message.get("text") or "").encode()
                answer = await self._answer(request, body, subscription, reads_only=asked is not None)
                await _say(send, answer)
        finally:
            self._plane.listeners.discard(subscription.offer)
            forwarding.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await forwarding

    async def _answer(
        self, request: Request, body: bytes, subscription: Subscription, *, reads_only: bool
    ) -> Any:
        """A message costs what a request costs."""
        admitted = -1
        try:
            admitted = self._guard.enter(request)
            if b'subscribe"' in body and _is_control(body):
                return _changed(subscription, decode(body, _control))
            if reads_only:
                raise BadRequest("this stream only reads: connect without ?subscribe to send bars")
            asked = read(self._limits, body)
            return asked.shape(await self._plane.bars(asked.bars, asked.timeframe))
        except ServingError as error:
            return {"error": str(error), "status": error.status}
        finally:
            self._guard.leave(admitted)


def _is_control(body: bytes) -> bool:
    probe = decode(body, _probe)
    return probe.subscribe is not msgspec.UNSET or probe.unsubscribe is not msgspec.UNSET


def _changed(subscription: Subscription, control: StreamControl) -> SubscribedEvent:
    if len(subscription.symbols) + len(control.subscribe) > MAX_SYMBOLS:
        raise BadRequest(f'more than {MAX_SYMBOLS} symbols: subscribe to "*" for all of them')
    subscription.add(control.subscribe)
    subscription.remove(control.unsubscribe)
    return SubscribedEvent(sorted(subscription.symbols))


async def _forward(subscription: Subscription, send: Send) -> None:
    while True:
        await _say(send, SignalEvent(*await subscription.take()))


async def _say(send: Send, value: Any) -> None:
    await send({"type": "websocket.send", "text": encode(value).decode()})


async def _refuse(error: ServingError, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status in (429, 503):
        headers.append((b"retry-after", b"%d" % error.retry_after))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode({"error": str(error)})})

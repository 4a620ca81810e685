"""The application: routing, errors, and the tasks that run beside the requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from serving.access_log import AccessLog
from serving.encoding import decompress
from serving.errors import ServingError
from serving.guard import Guard
from serving.http import (
    Found,
    Limits,
    Receive,
    Request,
    Response,
    Router,
    Scope,
    Send,
    Together,
    answer,
    packed,
)
from serving.plane import Plane
from serving.protocols import (
    bars,
    docs,
    features,
    metrics,
    open_inference,
    openapi,
    scoring,
    signal,
    stream,
)
from serving.watch import Discover, Watch

DRAIN_SECONDS = 0.5
Deliver = Callable[[Response], None]


class App:
    """The service: what connections ask for answers, and what uvicorn starts and stops."""

    def __init__(
        self,
        plane: Plane,
        *,
        limits: Limits | None = None,
        token: str | None = None,
        access_log: AccessLog | None = None,
        poll_seconds: float = 2.0,
        guard: Guard | None = None,
        discover: Discover | None = None,
    ) -> None:
        self.plane = plane
        self.limits = limits or Limits()
        self.guard = guard or Guard(self.limits, token=token)
        self._watch = Watch(plane, poll_seconds, discover)
        self._access_log = access_log
        self._logger = structlog.get_logger(component="serving")
        self._waiting: dict[Callable[[list[Request]], Sequence[Found]], list[tuple[Request, Deliver]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._router = Router()
        bars.routes(self._router, plane, self.limits)
        signal.routes(self._router, plane)
        features.routes(self._router, plane)
        open_inference.routes(self._router, plane)
        scoring.routes(self._router, plane)
        stream.routes(self._router)
        metrics.routes(self._router, plane)
        openapi.routes(self._router)
        docs.routes(self._router)
        self._streams = stream.Streams(plane, self.limits, self.guard)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path pattern of everything that is answered."""
        return list(self._router.routes)

    def admit(self, request: Request) -> None:
        """Let a request in, by its head alone; ServingError when it is not answered. Ends with `leave`."""
        request.id = self.guard.request_id(request)
        request.admitted = self.guard.enter(request)
        if request.handler is None:
            request.route, request.handler, request.parameters = self._router.find(
                request.method, request.path, request.raw_path
            )

    def leave(self, request: Request) -> None:
        """The request costs nothing any more; twice is harmless."""
        admitted, request.admitted = request.admitted, -1
        self.guard.leave(admitted)

    def answer(self, request: Request, deliver: Deliver, *, alone: bool = False) -> None:
        """Answer an admitted request whose body has come, now or later, by one call of `deliver`.

        `alone`: there is no other connection whose requests could be answered together with it.
        """
        handler = request.handler
        assert handler is not None
        try:
            encoding = request.headers.get(b"content-encoding")
            if encoding is not None:
                request.text = decompress(request.body, encoding, self.limits.body_bytes)
                request.start = 0
            if not isinstance(handler, Together):
                found: Found = handler(request)
            elif alone:
                found = handler.answer([request])[0]
            else:
                self._gather(handler, request, deliver)
                return
        except Exception as error:  # noqa: BLE001  the edge of the service
            found = error
        self._settle(request, found, deliver)

    def _gather(self, handler: Together, request: Request, deliver: Deliver) -> None:
        """Keep a request for the others that this turn of the loop brings."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        self._waiting.setdefault(handler.answer, []).append((request, deliver))

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer_all, group in waiting.items():
            try:
                found = answer_all([request for request, _ in group])
            except Exception as error:  # noqa: BLE001  the edge of the service
                found = [error] * len(group)
            for (request, deliver), each in zip(group, found, strict=True):
                self._settle(request, each, deliver)

    def _settle(self, request: Request, found: Found, deliver: Deliver) -> None:
        if isinstance(found, Response):
            found = packed(found, request)
        elif isinstance(found, Exception):
            found = self._fault(request, found)
        if not isinstance(found, Response):
            task = asyncio.create_task(self._later(request, found, deliver))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        self.leave(request)
        # before the answers to those in line behind it
        self.note(request, found.status)
        deliver(found)

    async def _later(self, request: Request, found: Awaitable[Response], deliver: Deliver) -> None:
        try:
            settled: Found = await found
        except Exception as error:  # noqa: BLE001  the edge of the service
            settled = error
        except asyncio.CancelledError:
            self.leave(request)
            raise
        self._settle(request, settled, deliver)

    def refuse(self, request: Request, error: ServingError) -> Response:
        """The answer to a request whose body stays unread: the connection cannot be used again."""
        response = _refusal(error)
        response.close = True
        self.leave(request)
        self.note(request, response.status)
        return response

    def note_refusal(self, client: str, status: int) -> None:
        """Count and log what was refused before it was a request."""
        nothing = Request("-", "-", b"", b"", {}, client)
        nothing.id = self.guard.request_id(nothing)
        self.note(nothing, status)

    def report(self, event: str, error: Exception, **where: str) -> None:
        """Log a fault of our own."""
        self._logger.error(event, exc_info=error, **where)

    def _fault(self, request: Request, error: Exception) -> Response:
        if isinstance(error, ServingError):
            return _refusal(error)
        shown = request.id.decode("ascii")
        self.report("request_failed", error, route=request.route, request_id=shown)
        return answer({"error": f"internal error: see {shown} in the service's log"}, 500)

    def note(self, request: Request, status: int) -> None:
        """Count and log an answered request."""
        seconds = time.perf_counter() - request.started
        counts = self.plane.metrics
        counts.requests.add(request.route, str(status))
        counts.request_seconds.observe(request.route, seconds)
        if self._access_log is not None:
            self._access_log.add(request, status, seconds * 1e3)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, of which uvicorn asks for WebSockets and the lifespan; plain HTTP goes to `answer`."""
        if scope["type"] == "websocket":
            await self._stream(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = stream.handshake(scope)
        request.id, request.route = self.guard.request_id(request), stream.PATH
        self.note(request, await self._streams(request, receive, send))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        tasks = [asyncio.create_task(self._watch.run()), asyncio.create_task(self._drain())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _drain(self) -> None:
        while True:
            await asyncio.sleep(DRAIN_SECONDS)
            await asyncio.to_thread(self._write_access_log)

    def _write_access_log(self) -> None:
        if self._access_log is None:
            return
        try:
            self._access_log.drain()
        except OSError as error:
            self._logger.error("access_log_failed", error=str(error))

    def _close(self) -> None:
        self._write_access_log()
        for slot in self.plane.slots:
            slot.close()


def _refusal(error: ServingError) -> Response:
    response = answer({"error": str(error)}, error.status)
    if error.status in (429, 503):
        response.headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == 401:
        response.headers.append((b"www-authenticate", b"Bearer"))
    return response

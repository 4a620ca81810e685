"""The ASGI application: routing, errors, and the tasks that run beside the requests."""

import asyncio
import time
from contextlib import suppress

import structlog

from serving.access_log import AccessLog
from serving.encoding import decompress
from serving.errors import ServingError
from serving.guard import Guard
from serving.http import Limits, Receive, Request, Response, Router, Scope, Send, answer, packed, read_body
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


class App:
    """The service as one ASGI callable."""

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
        self._limits = limits or Limits()
        self._guard = guard or Guard(self._limits, token=token)
        self._watch = Watch(plane, poll_seconds, discover)
        self._access_log = access_log
        self._logger = structlog.get_logger(component="serving")
        self._router = Router()
        bars.routes(self._router, plane, self._limits)
        signal.routes(self._router, plane)
        features.routes(self._router, plane)
        open_inference.routes(self._router, plane)
        scoring.routes(self._router, plane)
        stream.routes(self._router)
        metrics.routes(self._router, plane)
        openapi.routes(self._router)
        docs.routes(self._router)
        self._streams = stream.Streams(plane, self._limits, self._admit_stream)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path pattern of everything that is answered."""
        return list(self._router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._stream(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        route, admitted = "unknown", -1
        request_id = self._guard.request_id(scope)
        try:
            admitted = self._guard.enter(scope)
            route, handler, parameters = self._router.find(scope["method"], scope["path"], scope["raw_path"])
            request = Request(scope, b"", parameters)
            if scope["method"] == "POST":
                request.body = await self._body(request, receive)
            response = await packed(await handler(request), request)
        except ServingError as error:
            response = _refusal(error)
        except Exception as error:
            shown = request_id.decode("ascii")
            self._logger.error("request_failed", route=route, request_id=shown, exc_info=error)
            response = answer({"error": f"internal error: see {shown} in the service's log"}, 500)
        finally:
            self._guard.leave(admitted)
        response.headers.append((b"x-request-id", request_id))
        await _send(response, send)
        self._note(scope, route, response.status, time.perf_counter() - started, request_id)

    async def _body(self, request: Request, receive: Receive) -> bytes:
        body = await read_body(receive, self._limits)
        encoding = request.headers.get(b"content-encoding")
        return body if encoding is None else decompress(body, encoding, self._limits.body_bytes)

    def _admit_stream(self, scope: Scope) -> None:
        self._guard.check_rate(scope)
        self._guard.authorise(scope)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = await self._streams(scope, receive, send)
        self.plane.metrics.requests.add(stream.PATH, str(status))

    def _note(self, scope: Scope, route: str, status: int, seconds: float, request_id: bytes) -> None:
        counts = self.plane.metrics
        counts.requests.add(route, str(status))
        counts.request_seconds.observe(route, seconds)
        if self._access_log is not None:
            self._access_log.add(scope, status, seconds * 1e3, request_id)

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
    if error.status in (401, 404, 405, 408, 413, 429, 503):
        # the body may be unread: the connection cannot be used again
        response.headers.append((b"connection", b"close"))
    if error.status in (429, 503):
        response.headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == 401:
        response.headers.append((b"www-authenticate", b"Bearer"))
    return response


async def _send(response: Response, send: Send) -> None:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})

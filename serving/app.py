"""The ASGI application: routing, limits, errors, and the watch on newer models."""

import asyncio
import hmac
import time
from contextlib import suppress

import structlog

from serving.access_log import AccessLog
from serving.errors import ServingError, Unauthorized
from serving.http import Limits, Receive, Request, Response, Router, Scope, Send, answer, read_body
from serving.plane import Plane
from serving.protocols import bars, metrics, open_inference, openapi, signal

# Probes of an orchestrator carry no token; whole paths only, never a prefix or suffix.
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
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
    ) -> None:
        self.plane = plane
        self._limits = limits or Limits()
        self._expected = f"Bearer {token}".encode() if token else None
        self._access_log, self._poll_seconds = access_log, poll_seconds
        self._logger = structlog.get_logger(component="serving")
        self._router = Router()
        bars.routes(self._router, plane, self._limits)
        signal.routes(self._router, plane)
        open_inference.routes(self._router, plane)
        metrics.routes(self._router, plane)
        openapi.routes(self._router)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path pattern of everything that is answered."""
        return list(self._router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        route = "unknown"
        try:
            self._authorise(scope)
            route, handler, parameters = self._router.find(scope["method"], scope["path"], scope["raw_path"])
            body = await read_body(receive, self._limits) if scope["method"] == "POST" else b""
            response = await handler(Request(scope, body, parameters))
        except ServingError as error:
            response = _refusal(error)
        except Exception as error:
            self._logger.error("request_failed", path=scope["path"][:300], exc_info=error)
            response = answer({"error": "internal error: see the service's log"}, 500)
        await _send(response, send)
        self._note(scope, route, response.status, time.perf_counter() - started)

    def _authorise(self, scope: Scope) -> None:
        if self._expected is None or scope["path"] in OPEN_PATHS:
            return
        given = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
        if not hmac.compare_digest(given, self._expected):
            raise Unauthorized(
                "the token is missing or wrong: send 'Authorization: Bearer <BELLWETHER_TOKEN>'"
            )

    def _note(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        counts = self.plane.metrics
        counts.requests.add(route, str(status))
        counts.request_seconds.observe(route, seconds)
        if self._access_log is not None:
            self._access_log.add(scope["method"], scope["path"], status, seconds * 1e3)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._drain())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        """Look for newer bundles; loading and proving happen in a thread, off the request path."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            for slot in self.plane.slots:
                try:
                    loaded = await asyncio.to_thread(slot.look)
                    if loaded is not None:
                        await self.plane.swap(slot, loaded)
                except Exception as error:
                    self._logger.error("watch_failed", exc_info=error)

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
    if error.status in (401, 404, 405, 408, 413):
        # the body may be unread: the connection cannot be used again
        response.headers.append((b"connection", b"close"))
    if error.status in (429, 503):
        response.headers.append((b"retry-after", b"1"))
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

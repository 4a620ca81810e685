"""A gRPC server beside the HTTP one: the same event loop, data plane, guard, access log and metrics.

Every call is taken as a stream, which looks the same on the wire: so it is admitted by its metadata before
its message is received, and a message that does not come is not awaited for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from core.errors import ServiceError
from serving.errors import BadRequest, BodyTimeout, Overloaded, ServingError
from serving.grpc import health
from serving.grpc.messages import parse
from serving.grpc.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from serving.grpc.service import Service
from serving.http import Limits, Request

if TYPE_CHECKING:
    from serving.app import App
    from serving.tls import Certificate

# An answer that its peer does not read stays in memory until the connection ends.
CONNECTION_SECONDS = 60
WATCH_SECONDS = 0.25
# calls that are open for one that the guard admits: refusals, probes, and answers that nobody reads
SPARE = 2
# a status travels in a header, and peers take 8 KiB of them
MESSAGE_CHARACTERS = 1000
# the client ended the call
GONE = 499
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcServer:
    """Answers the calls of the Open Inference Protocol; `start` and `stop` on the event loop of `app`."""

    def __init__(self, app: "App", host: str, port: int, certificate: "Certificate | None" = None) -> None:
        self._app, self._limits, self._certificate = app, app.limits, certificate
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        # messages that are received and answered at once: what the memory set aside for bodies takes
        self._places = asyncio.Semaphore(max(1, self._limits.buffered_bytes // self._limits.body_bytes))

    @property
    def address(self) -> str:
        """Host and port; a port of 0 is the one taken, once started."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """Answer from now on; ServiceError when the address cannot be had."""
        self._server = await self._started()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Take no more calls, and end within `limits.graceful_seconds`."""
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        await self._server.stop(self._limits.graceful_seconds)

    async def _started(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[_Taken(self._call)],
            options=list(_options(self._limits).items()),
            maximum_concurrent_rpcs=SPARE * self._limits.concurrency,
        )
        add_GRPCInferenceServiceServicer_to_server(Service(self._app.plane), server)
        server.add_generic_rpc_handlers((health.handler(self._app.plane),))
        try:
            self._port = self._opened(server)
        except RuntimeError as error:
            raise ServiceError(
                f"gRPC cannot use {self.address}: end the program that has it, or choose another with "
                "--grpc-port or BELLWETHER_GRPC_PORT"
            ) from error
        await server.start()
        return server

    def _opened(self, server: grpc.aio.Server) -> int:
        held = self._certificate
        if held is None:
            return int(server.add_insecure_port(self.address))
        shown = grpc.ssl_server_credentials([(held.key, held.chain)])
        return int(server.add_secure_port(self.address, shown))

    async def _watch(self) -> None:
        """Replace a server that ended by itself: grpcio's does when a path is not UTF-8, whoever sends it."""
        while True:
            try:
                await self._server.wait_for_termination(WATCH_SECONDS)
            except Exception as error:  # noqa: BLE001  whatever ended it
                self._app.report("grpc_server_ended", error)
                ended, self._server = self._server, await self._started()
                await ended.stop(self._limits.graceful_seconds)

    async def _call(self, method: str, handler: Any, context: Any) -> None:
        app, request = self._app, _request(method, context)
        request.id = app.guard.request_id(request)
        status, refused, answer = GONE, None, b""
        try:
            request.admitted = app.guard.enter(request)
            answer = await self._answer(request, handler, context)
            status = 200
        except ServingError as error:
            status, refused = error.status, error
        except Exception as error:  # noqa: BLE001  the edge of the service
            shown = request.id.decode("ascii")
            app.report("request_failed", error, route=request.route, request_id=shown)
            refused = ServingError(f"internal error: see {shown} in the service's log")
            status = refused.status
        finally:
            app.leave(request)
            app.note(request, status)
        context.set_trailing_metadata(_trailing(request, refused))
        if refused is not None:
            code = CODES.get(refused.status, grpc.StatusCode.INVALID_ARGUMENT)
            await context.abort(code, str(refused)[:MESSAGE_CHARACTERS])
        await context.write(answer)

    async def _answer(self, request: Request, handler: Any, context: Any) -> bytes:
        if request.admitted < 0:
            # a probe says nothing that would have to be read
            return await _answered(handler, handler.request_deserializer(b""), context)
        async with self._place():
            message = parse(handler.request_deserializer, await self._message(context))
            return await _answered(handler, message, context)

    async def _message(self, context: Any) -> bytes:
        # never cancelled: the core would write into what cancelling lets go of; it ends with the call
        reading = asyncio.ensure_future(context.read())
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        done, _ = await asyncio.wait({reading}, timeout=self._limits.body_seconds)
        if not done:
            limit = f"{self._limits.body_seconds:g} s"
            raise BodyTimeout(f"the message did not come within {limit}: send it again")
        message = reading.result()
        if not isinstance(message, bytes):
            raise BadRequest("the call ended before its message")
        return message

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            # with the wait for the message that follows, a call ends within 10 s
            async with asyncio.timeout(self._limits.body_seconds / 2):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("too many calls are being received: send it again later") from None
        try:
            yield
        finally:
            self._places.release()


class _Taken(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives every call that exists to `call`, with the handler that the generated code has for it."""

    def __init__(self, call: Callable[[str, Any, Any], Any]) -> None:
        self._call = call

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None

        async def taken(_: Any, context: Any) -> None:
            await self._call(details.method, handler, context)

        return grpc.stream_stream_rpc_method_handler(taken)


async def _answered(handler: Any, message: Message, context: Any) -> bytes:
    answer: Message = await handler.unary_unary(message, context)
    return bytes(answer.SerializeToString())


def _options(limits: Limits) -> dict[str, int]:
    return {
        # two servers on one port would share its calls
        "grpc.so_reuseport": 0,
        # of a compressed one, also what it unpacks to
        "grpc.max_receive_message_length": limits.body_bytes,
        "grpc.max_concurrent_streams": SPARE * limits.concurrency,
        "grpc.max_allowed_incoming_connections": limits.connections,
        "grpc.server_handshake_timeout_ms": int(limits.head_seconds * 1e3),
        "grpc.keepalive_time_ms": int(limits.ping_seconds * 1e3),
        "grpc.keepalive_timeout_ms": int(limits.write_seconds * 1e3),
        "grpc.max_connection_idle_ms": limits.keep_alive_seconds * 1000,
        "grpc.max_connection_age_ms": CONNECTION_SECONDS * 1000,
        "grpc.max_connection_age_grace_ms": int(limits.write_seconds * 1e3),
    }


def _request(method: str, context: Any) -> Request:
    """The call as the guard and the access log know requests."""
    headers = {
        key.encode(): value if isinstance(value, bytes) else value.encode()
        for key, value in context.invocation_metadata()
    }
    # "ipv4:127.0.0.1:40000", "ipv6:%5B::1%5D:40000"
    host = unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")
    return Request("POST", method, method.encode(), b"", headers, host, route=method)


def _trailing(request: Request, refused: ServingError | None) -> tuple[tuple[str, str], ...]:
    found = [("x-request-id", request.id.decode("ascii"))]
    if refused is not None and refused.status in (429, 503):
        found.append(("grpc-retry-pushback-ms", str(1000 * refused.retry_after)))
    return tuple(found)

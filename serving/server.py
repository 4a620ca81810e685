"""Start, run and end the service."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from core.errors import ServiceError, UsageError
from serving import grpc, heap, tls, websocket
from serving.access_log import AccessLog
from serving.app import App
from serving.connection import Sweep, connections
from serving.fleet import Fleet
from serving.guard import Guard
from serving.http import Limits
from serving.metrics import Metrics
from serving.model import Model
from serving.plane import Plane

if TYPE_CHECKING:
    from core.settings import Settings
    from serving.grpc.server import GrpcServer

# uvicorn ticks ten times a second
SWEEP_TICKS = 10
SPARE_DESCRIPTORS = 256
# one that never comes holds a descriptor all that time, and is not counted among the connections
HANDSHAKE_SECONDS = 2.0
BACKLOG = 2048
SEND_BUFFER = 128 * 1024
# a peer that is told goodbye is waited for this long
FAREWELL_SECONDS = 2.0
_ENCRYPT = "give --tls-cert and --tls-key, or let a proxy before it encrypt"
_logger = structlog.get_logger(component="serving")


@dataclass(frozen=True)
class Ready:
    """Where a service answers from now on, and with what; `grpc` is host and port."""

    url: str
    grpc: str | None
    models: Sequence[Model]


def serve(
    settings: "Settings",
    *,
    bundle: Path | None = None,
    model: str | None = None,
    host: str | None = None,
    port: int | None = None,
    wait_for_model: bool = False,
    fresh: bool = False,
    limits: Limits | None = None,
    on_ready: Callable[[Ready], None] | None = None,
    grpc_port: int | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> None:
    """Serve until SIGTERM or ctrl-C, then flush the prediction log and return.

    Serves `bundle`, a directory, or the champion of `model` ("sp500-1d"; None means every model with a
    champion) from the registry under `settings.mlflow_dir`. Port 0 takes a free one. `on_ready` is
    called once requests are answered. With `wait_for_model` a registry without a champion is polled
    (readiness 503) instead of refused. `fresh` begins at the bundle's feature state and keeps none. With
    `grpc_port` gRPC is spoken too; with `tls_cert` and `tls_key`, PEM files, everything is encrypted.
    UsageError: `model` beside `bundle`, an address that needs a token, gRPC without its extra, files that
    are no certificate and key. ServiceError: a port is busy. RegistryError, ArtifactError: nothing to serve.
    """
    if bundle is not None and model is not None:
        raise UsageError(
            f"--bundle {bundle} holds a model of its own: leave out --model {model}, or --bundle"
        )
    limits = limits or Limits(concurrency=settings.max_concurrency)
    token = settings.token.get_secret_value() if settings.token else None
    host = host or settings.host
    grpc_port = settings.grpc_port if grpc_port is None else grpc_port
    certificate = tls.read(tls_cert or settings.tls_cert, tls_key or settings.tls_key)
    beside = None
    if grpc_port is not None:
        beside = partial(grpc.load(), host=host, port=grpc_port, certificate=certificate)
    # of the packages below, this one says what takes half a minute
    logging.getLogger("features").setLevel(logging.INFO)
    with _bind(host, settings.port if port is None else port, token) as bound:
        metrics = Metrics()
        fleet = Fleet(settings, metrics, bundle=bundle, model=model, fresh=fresh)
        plane = Plane([], metrics)
        try:
            plane.slots += fleet.start(wait=wait_for_model)
            heap.settle()
            app = App(
                plane,
                limits=limits,
                guard=Guard(limits, token=token, rate=settings.rate_limit, burst=settings.rate_burst),
                access_log=AccessLog(
                    settings.var_dir / "logs" / "access.jsonl", secrets=[token] if token else []
                ),
                poll_seconds=settings.poll_seconds,
                discover=fleet.discover,
            )
            if certificate is None and not _loopback(host):
                _logger.warning("not_encrypted", host=host, remedy=_ENCRYPT)
            run(app, bound, limits, on_ready, beside(app) if beside else None, certificate)
        finally:
            for slot in plane.slots:
                slot.close()


@contextlib.contextmanager
def _bind(host: str, port: int, token: str | None) -> Iterator[socket.socket]:
    if token is None and not _loopback(host):
        raise UsageError(
            f"host {host}: an address other than loopback needs a token; set BELLWETHER_TOKEN, or use "
            "127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
            # What one slow reader may hold in the kernel; connections inherit it.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            # Listening now makes a second server on the port fail at once, before it loads a model.
            bound.listen(BACKLOG)
        except OSError as error:
            raise _not_bound(host, port, error) from error
        yield bound


def _not_bound(host: str, port: int, error: OSError) -> ServiceError:
    if error.errno == errno.EADDRINUSE:
        return ServiceError(
            f"port {port} on {host} is in use: end the program that has it, or choose another with --port or "
            "BELLWETHER_PORT"
        )
    return ServiceError(f"{host}:{port} cannot be used ({error.strerror}): choose another --host or --port")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """uvicorn that sweeps its connections, and returns after a signal instead of raising it again.

    `beside` starts before it, and ends while it does. `encryption` is what the event loop is told about TLS.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: Limits,
        on_ready: Callable[[], None],
        beside: "GrpcServer | None",
        encryption: dict[str, Any],
    ) -> None:
        super().__init__(config)
        self._limits, self._sweep, self._encryption = limits, Sweep(limits), encryption
        self._on_ready, self._beside = on_ready, beside

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self._sweep.run(self.server_state.connections, time.monotonic())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._beside is not None:
            await self._beside.start()
        # uvicorn would open the sockets itself, and wait a minute for a handshake of TLS
        await super().startup([])
        kind: Any = self.config.http_protocol_class
        new = partial(kind, self.config, self.server_state, self.lifespan.state)
        loop = asyncio.get_running_loop()
        for bound in sockets or ():
            opened = await loop.create_server(new, sock=bound, backlog=BACKLOG, **self._encryption)
            self.servers.append(opened)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _logger.info("service_ending")
        last = asyncio.get_running_loop().call_later(self._limits.graceful_seconds, self._cut)
        ending = [super().shutdown(sockets)] + ([self._beside.stop()] if self._beside else [])
        await asyncio.gather(*ending)
        last.cancel()

    def _cut(self) -> None:
        if left := list(self.server_state.connections):
            seconds = self._limits.graceful_seconds
            _logger.warning("connections_cut", connections=len(left), waited_seconds=seconds)
        for connection in left:
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(
    app: App,
    bound: socket.socket,
    limits: Limits,
    on_ready: Callable[[Ready], None] | None = None,
    beside: "GrpcServer | None" = None,
    certificate: tls.Certificate | None = None,
) -> None:
    """Answer requests on a bound socket until a signal; the main thread only."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="uvloop",
        http=connections(app, limits),
        **websocket.options(limits.message_bytes, limits.ping_seconds),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive_seconds,
        # whoever keeps it waiting is cut before
        timeout_graceful_shutdown=limits.graceful_seconds + 1,
    )
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    # a background thread may hold the interpreter for this long before a request gets its turn
    sys.setswitchinterval(0.0005)
    # handshakes of TLS and peers of gRPC are not counted as connections
    _raise_descriptor_limit(limits.connections * (1 + (beside is not None) + (certificate is not None)))
    url = f"{'https' if certificate else 'http'}://{shown}:{port}"

    def ready() -> None:
        if on_ready is not None:
            models = [slot.current.model for slot in app.plane.slots if slot.current is not None]
            on_ready(Ready(url, beside.address if beside else None, models))

    _Server(config, limits, ready, beside, _encryption(certificate, limits)).run(sockets=[bound])


def _encryption(certificate: tls.Certificate | None, limits: Limits) -> dict[str, Any]:
    if certificate is None:
        return {}
    return {
        "ssl": certificate.context,
        "ssl_handshake_timeout": min(HANDSHAKE_SECONDS, limits.head_seconds),
        "ssl_shutdown_timeout": FAREWELL_SECONDS,
    }


def _raise_descriptor_limit(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

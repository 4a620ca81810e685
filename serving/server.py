"""Start, run and end the service."""

import contextlib
import errno
import gc
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from core.errors import ArtifactError, RegistryError, ServiceError, UsageError
from serving.access_log import AccessLog
from serving.app import App
from serving.http import Limits
from serving.last_good import LastGood
from serving.metrics import Metrics
from serving.plane import Plane
from serving.resolver import DirectoryResolver, RegistryResolver, models_with_alias
from serving.slot import Slot

if TYPE_CHECKING:
    from core.settings import Settings


def serve(
    settings: "Settings",
    *,
    bundle: Path | None = None,
    model: str | None = None,
    host: str | None = None,
    port: int | None = None,
    wait_for_model: bool = False,
    limits: Limits | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or ctrl-C, then flush the prediction log and return.

    Serves `bundle`, a directory, or the champion of `model` ("sp500-1d"; None means every model with a
    champion) from the registry under `settings.mlflow_dir`. Port 0 takes a free one. `on_ready` gets the
    base URL once requests are answered. With `wait_for_model` a registry without a champion is polled
    (readiness 503) instead of refused. UsageError: an address that needs a token. ServiceError: the port is
    busy. RegistryError, ArtifactError: nothing to serve.
    """
    limits = limits or Limits()
    token = settings.token.get_secret_value() if settings.token else None
    host = host or settings.host
    with _bind(host, settings.port if port is None else port, token) as bound:
        metrics = Metrics()
        plane = Plane(make_slots(settings, metrics, bundle=bundle, model=model), metrics)
        try:
            start_slots(plane.slots, wait=wait_for_model)
            access_log = AccessLog(settings.var_dir / "logs" / "access.jsonl")
            app = App(
                plane, limits=limits, token=token, access_log=access_log, poll_seconds=settings.poll_seconds
            )
            run(app, bound, limits, on_ready)
        finally:
            for slot in plane.slots:
                slot.close()


def make_slots(
    settings: "Settings", metrics: Metrics, *, bundle: Path | None = None, model: str | None = None
) -> list[Slot]:
    """The models to serve, nothing loaded yet; RegistryError when the registry names none."""
    log_root = settings.prediction_log_dir
    if bundle is not None:
        return [Slot(DirectoryResolver(bundle), log_root=log_root, metrics=metrics)]
    database, copies = settings.mlflow_dir / "mlflow.db", settings.var_dir / "serving"
    names = [model] if model else _champions(database, copies)
    return [
        Slot(
            RegistryResolver(database, n), log_root=log_root, last_good=LastGood(copies / n), metrics=metrics
        )
        for n in names
    ]


def _champions(database: Path, copies: Path) -> list[str]:
    try:
        names = models_with_alias(database)
    except RegistryError:
        # unreachable: whatever served last
        names = sorted(path.name for path in copies.glob("[!.]*") if path.is_dir())
        if not names:
            raise
    if not names:
        raise RegistryError(f"{database} has no model with a champion: run `bellwether run` first")
    return names


def start_slots(slots: Sequence[Slot], *, wait: bool = False) -> None:
    """Load every model; with `wait`, one that has no bundle yet is left to the watch."""
    for slot in slots:
        try:
            slot.start()
        except (RegistryError, ArtifactError):
            if not wait:
                raise
    gc.collect()
    gc.freeze()


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
            # Listening now makes a second server on the port fail at once, before it loads a model.
            bound.listen(2048)
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
    """uvicorn that ends quietly: it returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

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
    app: App, bound: socket.socket, limits: Limits, on_ready: Callable[[str], None] | None = None
) -> None:
    """Answer requests on a bound socket until a signal; the main thread only."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.concurrency,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=limits.graceful_seconds,
    )
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    # a background thread may hold the interpreter for this long before a request gets its turn
    sys.setswitchinterval(0.0005)
    _Server(config, lambda: on_ready(f"http://{shown}:{port}") if on_ready else None).run(sockets=[bound])

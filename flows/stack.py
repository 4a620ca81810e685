"""What `bellwether up` runs, and how long: Prefect server and worker, MLflow UI, the inference service.

Everything binds to loopback and keeps its state under var/ and mlflow/; the user's own Prefect profile is
neither read nor written. This module imports no Prefect: the supervisor stays small.
"""

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from core.errors import RegistryError, ServiceError
from core.files import exclusive_lock
from core.settings import Settings, child_environment
from flows.find import champions
from flows.spawn import Service, answers, end_marked
from flows.supervise import OnEvent, Plan, StackEvent, Supervisor, Timing

POOL = "bellwether"
CODE = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
_WORKER_POLL_SECONDS = "5"


def environment(settings: Settings) -> dict[str, str]:
    """What every child sees: our addresses and homes, none of the user's Prefect settings."""
    inherited = {k: v for k, v in child_environment().items() if not k.startswith("PREFECT_")}
    return {
        **inherited,
        "PYTHONPATH": str(CODE),
        "PYTHONUNBUFFERED": "1",
        "BELLWETHER_HOME": str(settings.home),
        "BELLWETHER_HOST": LOOPBACK,
        "BELLWETHER_TLS_CERT": "",
        "BELLWETHER_TLS_KEY": "",
        "BELLWETHER_PORT": str(settings.port),
        "BELLWETHER_PREFECT_PORT": str(settings.prefect_port),
        "BELLWETHER_MLFLOW_PORT": str(settings.mlflow_port),
        **prefect_environment(settings),
    }


def prefect_environment(settings: Settings) -> dict[str, str]:
    """Prefect's settings: home under var/, the local server, nothing reported or advertised."""
    return {
        "PREFECT_HOME": str(settings.var_dir / "prefect"),
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": _WORKER_POLL_SECONDS,
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLI_COLORS": "false",
    }


def plan(settings: Settings) -> Plan:
    """The services of the stack for these settings."""
    env = environment(settings)

    def module(
        name: str, *command: str, ready: Callable[[], bool], url: str = "", seconds: float = 180.0
    ) -> Service:
        log = settings.var_dir / "logs" / f"{name}.log"
        return Service(name, (sys.executable, "-m", *command), env, settings.home, log, ready, url, seconds)

    root = {name: f"http://{LOOPBACK}:{port}" for name, port in _ports(settings).items()}
    prefect = module(
        "prefect", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(settings.prefect_port),
        ready=lambda: answers(f"{root['prefect']}/api/health"), url=root["prefect"],
    )  # fmt: skip
    mlflow = module(
        "mlflow", "mlflow", "server", "--host", LOOPBACK, "--port", str(settings.mlflow_port),
        "--workers", "1", "--backend-store-uri", settings.tracking_uri,
        "--artifacts-destination", settings.artifacts_dir.as_uri(),
        ready=lambda: answers(f"{root['mlflow']}/health"),
        url=f"{root['mlflow']}/#/experiments?workflowType=machine_learning",
    )  # fmt: skip
    setup = module("deploy", "flows.deploy", ready=_yes)
    worker = module(
        "worker", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL,
        ready=lambda: worker_online(settings),
    )  # fmt: skip
    service = module(
        "service", "cli.main", "serve",
        ready=lambda: answers(f"{root['service']}/v2/health/ready"), url=root["service"],
    )  # fmt: skip
    service = replace(
        service,
        wanted=lambda: _has_champion(settings),
        why_waiting="no model has a champion yet: `bellwether run` makes one, and the service then starts",
    )
    return Plan((prefect, mlflow), setup, (worker, service), mark=str(settings.home.resolve()))


def up(
    settings: Settings,
    on_event: OnEvent,
    *,
    stop: threading.Event | None = None,
    timing: Timing | None = None,
) -> int:
    """Run the stack until SIGINT, SIGTERM or `stop`; 0 when asked to end, 1 when a child kept failing.

    ServiceError before anything starts: a busy port, or a stack that runs already.
    """
    stop = stop or threading.Event()
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(settings.var_dir / "up.lock", wait=False) as mine:
        if not mine:
            raise ServiceError(
                f"`bellwether up` already runs in {settings.home}: use it, or end it "
                "with ctrl-C in its terminal"
            )
        layout = plan(settings)
        if count := end_marked(layout.mark):
            on_event(StackEvent("stack", "note", f"ended {count} processes that a killed `up` left behind"))
        check_ports(settings)
        with _signals(stop):
            return Supervisor(layout, on_event, stop, timing or Timing()).run()


def check_ports(settings: Settings) -> None:
    """ServiceError names every port that is taken or given twice, its setting and the remedy."""
    ports = _ports(settings)
    faults = []
    for name, port in ports.items():
        twin = next((other for other, same in ports.items() if same == port and other != name), None)
        if twin:
            faults.append(f"port {port} is set for both {name} and {twin}: change {_SETTING[name]}")
        elif not port_is_free(port):
            faults.append(
                f"port {port} ({name}) is in use on {LOOPBACK}: end the program that holds it, or set "
                f"{_SETTING[name]} to a free port"
            )
    if faults:
        raise ServiceError("\n".join(faults))


def port_is_free(port: int) -> bool:
    """True when a server could listen on loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def worker_online(settings: Settings) -> bool:
    """True when Prefect lists an online worker of our pool."""
    url = f"{settings.prefect_api_url}/work_pools/{POOL}/workers/filter"
    request = Request(url, data=b"{}", headers={"Content-Type": "application/json"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=2) as response:
            workers = json.load(response)
    except (URLError, OSError, ValueError):
        return False
    return any(worker.get("status") == "ONLINE" for worker in workers)


_SETTING: Mapping[str, str] = {
    "prefect": "BELLWETHER_PREFECT_PORT",
    "mlflow": "BELLWETHER_MLFLOW_PORT",
    "service": "BELLWETHER_PORT",
}


def _ports(settings: Settings) -> dict[str, int]:
    return {"prefect": settings.prefect_port, "mlflow": settings.mlflow_port, "service": settings.port}


def _yes() -> bool:
    return True


def _has_champion(settings: Settings) -> bool:
    try:
        return bool(champions(settings))
    except RegistryError:
        # While the store is being created or is locked by a writer: asked again in a moment.
        return False


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `stop`; only the main thread may, others rely on `stop`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

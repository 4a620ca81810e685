"""`bellwether up` in a process of its own, on free ports, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import Request, urlopen

import pytest

from core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_RUN_STACK = """
import json, sys
from core.settings import disable_telemetry, load_settings
disable_telemetry()
from flows.stack import up
def tell(event):
    print(json.dumps([event.service, event.kind, event.message]), flush=True)
sys.exit(up(load_settings(), tell))
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; held together while they are chosen, so they differ."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def settings_in(home: Path) -> Settings:
    """Settings of a home with ports of its own."""
    service, prefect, mlflow = free_ports(3)
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, port=service, prefect_port=prefect, mlflow_port=mlflow)


@dataclass
class RunningStack:
    """`bellwether up` in a process of its own; `events` grow as it reports them."""

    settings: Settings
    process: "subprocess.Popen[str]"
    output: Path
    begun: float = field(default_factory=monotonic)

    @property
    def events(self) -> list[list[str]]:
        lines = self.output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("[")]

    def wait_for(self, what: Callable[[], Any], seconds: float, why: str) -> Any:
        """The first true answer of `what`; fails the test after `seconds`."""
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            if answer := what():
                return answer
            sleep(0.25)
        pytest.fail(f"not within {seconds:.0f} s: {why}; {self.output.read_text()[-2000:]}")

    def saw(self, service: str, kind: str, times: int = 1) -> bool:
        assert self.process.poll() is None, f"the stack ended: {self.output.read_text()[-3000:]}"
        return sum(event[:2] == [service, kind] for event in self.events) >= times

    def api(self, path: str, body: Any = None) -> Any:
        """POST to Prefect's API, or GET without a body."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(
            self.settings.prefect_api_url + path, data=data, headers={"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=10) as response:
            return json.load(response)

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        """Runs of a flow in any of the state types."""
        found = self.api("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "limit": 200})
        return [run for run in found if run["state_type"] in states]

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=40)


def start_stack(settings: Settings) -> RunningStack:
    """Start `bellwether up` as a user's shell would, from the home folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BELLWETHER_", "PREFECT_"))}
    env |= {
        "PYTHONPATH": str(ROOT),
        "BELLWETHER_HOME": str(settings.home),
        "BELLWETHER_PORT": str(settings.port),
        "BELLWETHER_PREFECT_PORT": str(settings.prefect_port),
        "BELLWETHER_MLFLOW_PORT": str(settings.mlflow_port),
    }
    output = settings.home / "events.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN_STACK],
            cwd=settings.home,
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return RunningStack(settings, process, output)


def stop_stack(stack: RunningStack) -> None:
    """End a stack however the test went, and what it started."""
    from flows.spawn import end_marked

    if stack.process.poll() is None:
        stack.process.terminate()
        try:
            stack.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            stack.process.kill()
            stack.process.wait()
    end_marked(str(stack.settings.home.resolve()))

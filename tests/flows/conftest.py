"""A stack of its own on free ports, and stand-ins for the pipelines that flows call."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest

from core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FAKES = Path(__file__).with_name("fakes")
_RUN_STACK = """
import json, sys
from core.settings import disable_telemetry, load_settings
disable_telemetry()
from cli.up import up
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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh home on free ports."""
    return settings_in(tmp_path / "home")


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


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A running stack whose flows see the stand-ins in tests/flows/fakes instead of the pipelines."""
    settings = settings_in(tmp_path_factory.mktemp("stack") / "home")
    (settings.home / "pipelines").symlink_to(FAKES / "pipelines", target_is_directory=True)
    running = start_stack(settings)
    try:
        running.wait_for(lambda: running.saw("stack", "ready"), 150, "the stack is up")
        yield running
    finally:
        stop_stack(running)


class FakeWorkspace:
    """Stages that are done at once; `faults` maps a stage to the errors of its first attempts."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.calls: list[str] = []
        self.faults: dict[str, list[Exception]] = {}

    def repro(self, stage: str, on_line: Callable[[str], None]) -> Any:
        from pipelines.workspace import StageResult

        self.calls.append(stage)
        on_line(f"Running stage '{stage}'")
        if self.faults.get(stage):
            raise self.faults[stage].pop(0)
        return StageResult(stage, "ran", 0.1)

    def push(self) -> None:
        self.calls.append("push")


@dataclass
class FakePipelines:
    """What the stand-in modules were asked, and what they answer."""

    workspace: FakeWorkspace
    overrides: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    retrain: bool = False


def summary_of(model: str = "sp500-1d") -> dict[str, Any]:
    """A run's summary as plain values."""
    return {
        "model": model,
        "version": "3",
        "alias": "challenger",
        "tradable": False,
        "data": {"rows": 5031, "hash": "abc"},
        "models": [{"name": "lightgbm", "log_loss": 0.69, "auc": None}],
        "next_steps": ["bellwether serve"],
    }


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePipelines:
    """Stand-ins for pipelines.job, .drift, .promotion and the workspace, in this process."""
    root = tmp_path / "worktree"
    root.mkdir()
    (root / "params.yaml").write_text("data: {symbol: sp500}\n")
    fake = FakePipelines(FakeWorkspace(root, Settings(home=tmp_path / "home")))

    class Opened:
        def __enter__(self) -> FakeWorkspace:
            return fake.workspace

        def __exit__(self, *_: object) -> None:
            return None

    def open_workspace(_settings: Settings, overrides: dict[str, Any], *, isolated: bool) -> Opened:
        assert isolated
        fake.overrides.append(overrides)
        return Opened()

    def register(_ws: Any, *, reason: str) -> Any:
        fake.reasons.append(reason)
        return SimpleNamespace(existing=False)

    def summarise(*_: Any, seconds: float) -> Any:
        return SimpleNamespace(to_json=summary_of)

    def check_drift(_settings: Settings, model: str, *, last: int | None = None) -> Any:
        verdict = {"severity": "HIGH", "share": 0.4, "reasons": ["12 of 30 features moved"]}
        return SimpleNamespace(
            model=model, verdict=verdict, html=Path("drift.html"), json=Path("drift.json"),
            action="halve size and retrain" if fake.retrain else "nothing",
            retrain=fake.retrain, as_of="2008-10-10T20:00:00+00:00",
        )  # fmt: skip

    monkeypatch.setattr("flows.retrain.open_workspace", open_workspace)
    monkeypatch.setattr("flows.retrain.job", SimpleNamespace(register=register, summarise=summarise))
    monkeypatch.setattr("flows.watch.check_drift", check_drift)
    return fake


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect server for every flow that a test runs in this process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def add_champion(settings: Settings) -> Callable[[str, str], None]:
    """Writes what MLflow's database says of a champion."""

    def add(model: str, version: str) -> None:
        settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(settings.mlflow_dir / "mlflow.db")) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS registered_model_aliases (alias, version, name)")
            connection.execute(
                "INSERT INTO registered_model_aliases VALUES ('champion', ?, ?)", (version, model)
            )
            connection.commit()

    return add

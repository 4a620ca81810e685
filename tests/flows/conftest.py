"""A stack of its own on free ports, and stand-ins for the pipelines that flows call."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.settings import Settings
from tests.support.running_stack import RunningStack, settings_in, start_stack, stop_stack

FAKES = Path(__file__).with_name("fakes")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh home on free ports."""
    return settings_in(tmp_path / "home")


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

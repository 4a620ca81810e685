"""The main job: stages, push, registration, summary. The command line and the flows both run these steps."""

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any, Literal

from core.settings import Settings
from pipelines.registration import Registered, register
from pipelines.stage import PROGRESS, headline
from pipelines.summarise import summarise
from pipelines.summary import RunSummary
from pipelines.workspace import STAGES, StageResult, Workspace, open_workspace

__all__ = ["Registered", "bring_up_to_date", "register", "run", "summarise"]

OnStep = Callable[[str, Literal["running", "ran", "unchanged"], float, str], None]


def _ignore(step: str, state: str, seconds: float, message: str) -> None:
    """Progress nobody asked for."""


def run(
    settings: Settings,
    overrides: Mapping[str, Any] | None = None,
    *,
    isolated: bool = False,
    reason: str = "manual",
    on_step: OnStep = _ignore,
) -> RunSummary:
    """Everything from data to a registered model; `on_step` is told when a step starts and ends."""
    begin = perf_counter()
    with open_workspace(settings, overrides, isolated=isolated) as workspace:
        results = bring_up_to_date(workspace, on_step)
        on_step("register", "running", 0.0, "")
        start = perf_counter()
        registered = register(workspace, reason=reason)
        state: Literal["ran", "unchanged"] = "unchanged" if registered.existing else "ran"
        entry = registered.registration
        message = f"{entry.model} version {entry.version}, {registered.alias or 'no alias'}"
        on_step("register", state, perf_counter() - start, message)
        return summarise(workspace, results, registered, seconds=perf_counter() - begin)


def bring_up_to_date(workspace: Workspace, on_step: OnStep = _ignore) -> list[StageResult]:
    """Run every stage that is not up to date, then push the outputs."""
    fresh = not workspace.stale()
    results = []
    for stage in STAGES:
        if fresh:
            result = StageResult(stage, "unchanged", 0.0)
        else:
            on_step(stage, "running", 0.0, "")
            result = workspace.repro(stage, partial(_relay, on_step, stage))
        results.append(result)
        on_step(stage, result.status, result.seconds, headline(workspace.root, stage))
    on_step("push", "running", 0.0, "")
    start = perf_counter()
    state: Literal["ran", "unchanged"] = "ran" if workspace.push() else "unchanged"
    on_step("push", state, perf_counter() - start, "outputs are in the DVC remote")
    return results


def _relay(on_step: OnStep, stage: str, line: str) -> None:
    if line.startswith(PROGRESS):
        on_step(stage, "running", 0.0, line.removeprefix(PROGRESS))

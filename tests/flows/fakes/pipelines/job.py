"""A job whose registration always succeeds."""

from typing import Any

from pipelines.summary import RunSummary
from pipelines.workspace import StageResult, Workspace

Registered = dict[str, str]


def register(_ws: Workspace, *, reason: str) -> Registered:
    return {"reason": reason}


def summarise(_ws: Workspace, stages: list[StageResult], registered: Registered, **_: Any) -> RunSummary:
    facts = {"model": "fake-1d", "version": "2", "stages": [stage.stage for stage in stages]}
    return RunSummary({**facts, **registered})

"""A workspace that only writes down what it was asked."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.settings import Settings

STAGES = ("ingest", "gate")


@dataclass(frozen=True)
class StageResult:
    stage: str
    status: str
    seconds: float


@dataclass(frozen=True)
class Workspace:
    root: Path
    settings: Settings

    def repro(self, stage: str, on_line: Callable[[str], None]) -> StageResult:
        on_line(f"Running stage '{stage}'")
        return StageResult(stage, "ran", 0.0)

    def push(self) -> None:
        return None


@contextmanager
def open_workspace(
    settings: Settings, overrides: Mapping[str, Any], *, isolated: bool
) -> Iterator[Workspace]:
    assert isolated
    yield Workspace(settings.home, settings)

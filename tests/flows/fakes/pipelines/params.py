"""The names that flows import from pipelines.params."""

from pathlib import Path
from typing import Any

PARAMS_FILE = "params.yaml"


def read_tree(_path: Path) -> dict[str, Any]:
    return {"data": {"symbol": "fake"}}


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    return dict(text.split("=", 1) for text in assignments)

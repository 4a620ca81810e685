"""docs/service.md names what there is, and nothing else."""

import re
from pathlib import Path

import pytest

from cli.reference import render
from core.settings import Settings
from serving.app import App
from serving.metrics import Metrics
from serving.plane import Plane

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "service.md").read_text()
ROUTES = {pattern for _, pattern in App(Plane([], Metrics())).routes}


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"`(?:GET |POST )?(/(?:v1|v2|ping|version|invocations|metrics|docs)[^`? ]*)", PAGE))
    ),
)
def test_its_paths_are_answered(path: str) -> None:
    parts = path.split("/")
    fits = [r.split("/") for r in ROUTES if r.count("/") == path.count("/")]
    known = any(all(a == b or b.startswith("{") for a, b in zip(parts, fit, strict=True)) for fit in fits)
    assert known or any(route.startswith(f"{path}/") for route in ROUTES)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"BELLWETHER_[A-Z_]+", PAGE))))
def test_its_settings_are_read(name: str) -> None:
    assert name.removeprefix("BELLWETHER_").lower() in Settings.model_fields


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--[a-z][a-z-]+", PAGE))))
def test_its_options_are_taken(option: str) -> None:
    assert option in render()

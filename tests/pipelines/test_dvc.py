"""dvc.yaml is complete: a stage reruns whenever code or parameters that shape its outputs change."""

from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from pipelines.params import known_names
from pipelines.workspace import STAGES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "data", "features", "evaluation", "models", "trading", "pipelines", "monitoring")
# plumbing: it carries values from file to file and shapes none
PLUMBING = {
    "core.errors",
    "core.files",
    "core.log",
    "core.settings",
    "core.workers",
    "pipelines.dvc_lock",
    "pipelines.params",
    "pipelines.stage",
    "pipelines.stored",
    "pipelines.tables",
    "pipelines.workspace",
}


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return found


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    found = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    for module in PLUMBING:
        found.remove_module(module)
    return found


def covered(module: str, deps: list[str]) -> bool:
    path = module.replace(".", "/")
    return any(path + ".py" == dep or path == dep or path.startswith(dep + "/") for dep in deps)


def test_the_stages_are_those_that_run_in_order(stages: dict[str, Any]) -> None:
    assert tuple(stages) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_imports_is_a_dependency(
    stage: str, stages: dict[str, Any], graph: grimp.ImportGraph
) -> None:
    reached = graph.find_upstream_modules(f"pipelines.{stage}") | {f"pipelines.{stage}"}
    packages = {module for module in graph.modules if graph.find_children(module)}
    shaping = {m for m in reached if m not in PLUMBING and m not in packages}
    missing = sorted(m for m in shaping if not covered(m, stages[stage]["deps"]))
    assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_exist_and_outputs_persist(stage: str, stages: dict[str, Any]) -> None:
    for dep in stages[stage]["deps"]:
        assert dep.startswith("data/store/") or (ROOT / dep).exists(), dep
    for out in [*stages[stage]["outs"], *stages[stage].get("metrics", [])]:
        assert next(iter(out.values()))["persist"], out


def test_every_tracked_parameter_exists(stages: dict[str, Any]) -> None:
    names = set(known_names())
    blocks = {name.split(".")[0] for name in names}
    for stage in stages.values():
        assert {p for p in stage["params"] if p not in names | blocks} == set()

"""prefect.yaml against the code it names."""

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import temporary_settings

from core.errors import ConfigurationError
from flows.deploy import definitions, deployment, load_flow
from flows.request import DEPLOYMENT, EVENT
from flows.stack import POOL

_DEFINITIONS = {definition["entrypoint"]: definition for definition in definitions()}


@pytest.mark.parametrize("definition", _DEFINITIONS.values(), ids=list(_DEFINITIONS))
def test_definition_becomes_a_deployment(definition: dict[str, Any], tmp_path: Path) -> None:
    made = deployment(definition, tmp_path)
    assert made.entrypoint == definition["entrypoint"]
    assert made.work_pool_name == POOL
    assert made.concurrency_limit == 1
    assert made.concurrency_options is not None
    assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert made.job_variables == {"working_dir": str(tmp_path)}


def test_the_drift_event_passes_what_retrain_takes() -> None:
    definition = _DEFINITIONS["flows.retrain.retrain"]
    (trigger,) = definition["triggers"]
    assert trigger["expect"] == [EVENT]
    assert set(trigger["parameters"]) <= set(signature(load_flow("flows.retrain.retrain").fn).parameters)
    assert f"retrain/{definition['name']}" == DEPLOYMENT


def test_refresh_comes_after_the_close_of_new_york() -> None:
    (schedule,) = _DEFINITIONS["flows.retrain.retrain"]["schedules"]
    minute, hour, *_, weekdays = schedule["cron"].split()
    assert (int(hour), int(minute)) > (16, 0)
    assert (weekdays, schedule["timezone"]) == ("1-5", "America/New_York")


def test_entrypoint_that_is_no_flow_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a flow"):
        load_flow("flows.retrain.changes")


def test_file_without_deployments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("name: bellwether\n")
    with pytest.raises(ConfigurationError, match="does not list deployments"):
        definitions(tmp_path / "prefect.yaml")


def test_the_server_can_be_imported() -> None:
    # Its import is what a wrong fastapi breaks; that cron runs get scheduled is seen in test_stack_e2e.
    with temporary_settings():
        import prefect.server.api.server as server

    assert server.create_app


def test_sqlalchemy_is_below_the_version_that_stops_the_scheduler() -> None:
    from importlib.metadata import version

    assert version("sqlalchemy").startswith("2.0.")

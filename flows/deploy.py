"""Bring the Prefect server in line with prefect.yaml: work pool, deployments, schedules, automations.

Run as `python -m flows.deploy`. Repeating it changes nothing. The file is the only definition;
`prefect deploy --all` reads the same one.
"""

import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from core.errors import BellwetherError, ConfigurationError
from core.files import canonical_json
from core.settings import disable_telemetry, load_settings
from flows.stack import CODE, POOL
from flows.sweep import sweep

FILE = CODE / "prefect.yaml"


def definitions(path: Path = FILE) -> list[dict[str, Any]]:
    """The deployments in prefect.yaml, as they stand."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = tree["deployments"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} does not list deployments ({error}): restore it from git"
        ) from error
    return list(found)


def create_pool() -> None:
    """Create the process work pool unless it is there."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def deployment(definition: dict[str, Any], directory: Path) -> RunnerDeployment:
    """One deployment from its definition; its runs work in `directory`, where `.env` is read."""
    return RunnerDeployment.from_flow(
        load_flow(definition["entrypoint"]),
        name=definition["name"],
        description=definition["description"],
        tags=definition.get("tags", []),
        schedules=[Cron(one["cron"], timezone=one["timezone"]) for one in definition["schedules"]],
        parameters=definition.get("parameters", {}),
        concurrency_limit=ConcurrencyLimitConfig(**definition["concurrency_limit"]),
        triggers=[DeploymentEventTrigger(**trigger) for trigger in definition.get("triggers", [])],
        work_pool_name=definition["work_pool"]["name"],
        job_variables={"working_dir": str(directory)},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def load_flow(entrypoint: str) -> "Flow[..., Any]":
    """The flow at a module path such as flows.retrain.retrain."""
    module, _, name = entrypoint.rpartition(".")
    found = getattr(import_module(module), name)
    if not isinstance(found, Flow):
        raise ConfigurationError(f"{entrypoint} in {FILE.name} is not a flow: name module and function")
    return found


def deploy(directory: Path) -> list[str]:
    """Apply every definition; returns the deployments' full names."""
    create_pool()
    wanted = [deployment(definition, directory) for definition in definitions()]
    for one in wanted:
        one.apply()
    return [one.full_name for one in wanted]


def main() -> int:
    """Deploy, and mark the runs that an earlier worker left open: none can be alive before ours starts."""
    disable_telemetry()
    try:
        names = deploy(load_settings().home)
    except BellwetherError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(canonical_json({"deployed": names, "crashed": sweep(timedelta(0))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

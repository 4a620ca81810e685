"""The stack as a user meets it: up, scheduled, drift starts a retrain, a dead child returns, ctrl-C ends all.

The tests share one stack and run in the order written.
"""

import os
import signal
import subprocess
import sys
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from flows.request import EVENT
from flows.spawn import marked
from flows.stack import environment

pytestmark = pytest.mark.e2e


def test_everything_answers_on_loopback(stack: Any) -> None:
    for url in (
        f"http://127.0.0.1:{stack.settings.prefect_port}/api/health",
        f"http://127.0.0.1:{stack.settings.mlflow_port}/health",
    ):
        with urlopen(url, timeout=5) as response:
            assert response.status == 200
    addresses = {
        connection.laddr.ip
        for process in marked(str(stack.settings.home.resolve()))
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_the_users_prefect_profile_is_not_touched(stack: Any) -> None:
    assert (stack.settings.var_dir / "prefect" / "prefect.db").exists()
    for process in marked(str(stack.settings.home.resolve())):
        assert process.environ()["PREFECT_HOME"] == str(stack.settings.var_dir / "prefect")


def test_cron_deployments_get_scheduled_runs(stack: Any) -> None:
    for flow in ("retrain", "watch"):
        stack.wait_for(lambda flow=flow: stack.runs(flow, "SCHEDULED"), 60, f"{flow} has scheduled runs")


def test_drift_event_starts_the_retrain_deployment(stack: Any) -> None:
    deployment = stack.api("/deployments/name/watch/bellwether")
    stack.api(
        f"/deployments/{deployment['id']}/create_flow_run",
        {"parameters": {"model": "fake-1d"}, "state": {"type": "SCHEDULED"}},
    )
    ended = ("COMPLETED", "FAILED", "CRASHED")
    watched = stack.wait_for(lambda: stack.runs("watch", *ended), 90, "the watch run ends")
    assert watched[0]["state_type"] == "COMPLETED", watched[0]["state"]
    retrained = stack.wait_for(lambda: stack.runs("retrain", *ended), 90, "drift starts a retrain that ends")
    assert len(retrained) == 1
    assert retrained[0]["state_type"] == "COMPLETED", retrained[0]["state"]
    assert retrained[0]["parameters"] | {"overrides": None} == {
        "as_of": "2008-10-10", "model": "fake-1d", "reason": "drift", "overrides": None,
    }  # fmt: skip
    assert retrained[0]["name"] == "fake as of 2008-10-10, drift"
    keys = {artifact["key"] for artifact in stack.api("/artifacts/filter", {})}
    assert {"drift-fake-1d", "retrain-fake-1d"} <= keys
    events = stack.api("/events/filter", {"filter": {"event": {"name": [EVENT]}}})["events"]
    assert len(events) == 1
    assert events[0]["resource"]["prefect.resource.id"] == "model.fake-1d"


def test_each_stage_is_a_task_of_its_own(stack: Any) -> None:
    run = stack.runs("retrain", "COMPLETED")[0]

    def names() -> set[str]:
        tasks = stack.api("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        return {task["name"].rpartition("-")[0] for task in tasks}

    # the server writes task runs down some time after the flow run has ended
    expected = {"ingest", "gate", "push", "register"}
    stack.wait_for(lambda: names() >= expected, 30, f"{expected} are task runs")
    assert names() == expected


def test_the_api_takes_the_nulls_that_prefects_own_client_sends(stack: Any) -> None:
    assert isinstance(stack.api("/deployments/filter", {"limit": None}), list)


def test_deploying_again_changes_nothing_and_lost_runs_are_swept(stack: Any) -> None:
    deployment = stack.api("/deployments/name/retrain/bellwether")
    lost = stack.api(
        f"/deployments/{deployment['id']}/create_flow_run",
        {"state": {"type": "RUNNING"}, "parameters": {}},
    )
    before = stack.api("/deployments/count", {}), len(stack.api("/automations/filter", {}))
    subprocess.run(
        [sys.executable, "-m", "flows.deploy"],
        cwd=stack.settings.home,
        env=environment(stack.settings),
        check=True,
        capture_output=True,
    )
    assert (stack.api("/deployments/count", {}), len(stack.api("/automations/filter", {}))) == before
    assert before == (3, 1)
    assert stack.api(f"/flow_runs/{lost['id']}")["state_type"] == "CRASHED"


def test_a_killed_worker_is_reported_and_started_again(stack: Any) -> None:
    home = stack.settings.home.resolve()
    worker = min(marked(f"{home}:worker"), key=lambda process: process.create_time())
    os.kill(worker.pid, signal.SIGKILL)
    stack.wait_for(lambda: stack.saw("worker", "exited"), 20, "the death is reported")
    stack.wait_for(lambda: stack.saw("worker", "ready", 2), 60, "the worker is back")


def test_the_service_waits_for_a_champion(stack: Any) -> None:
    assert stack.saw("service", "waiting")
    assert not stack.saw("service", "starting")


def test_interrupt_ends_every_process(stack: Any) -> None:
    home = str(stack.settings.home.resolve())
    assert marked(home)
    assert stack.interrupt() == 0
    assert marked(home) == []
    assert stack.events[-1][:2] == ["stack", "stopped"]

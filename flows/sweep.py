"""Mark flow runs whose process is gone: Prefect leaves a killed run RUNNING for ever."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Crashed

from core.processes import environment_of
from flows.stack import POOL

_RUN_ID = "PREFECT__FLOW_RUN_ID"
_LIMIT = 200
_OPEN = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def sweep(grace: timedelta = timedelta(minutes=2)) -> list[str]:
    """Mark as crashed every open run of our pool that has no process; returns their names.

    The pool's only worker is on this machine, and a run's process carries the run's id in its
    environment. A run younger than `grace` may still be starting.
    """
    marked = []
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
            # the server refuses the client's own defaults for these two
            sort=FlowRunSort.START_TIME_ASC,
            limit=_LIMIT,
        )
        alive = running_ids() if runs else set()
        for run in runs:
            if is_lost(run, alive, grace, datetime.now(UTC)):
                client.set_flow_run_state(run.id, Crashed(message="its process is gone"), force=True)
                marked.append(run.name)
    return marked


def is_lost(run: Any, alive: set[str], grace: timedelta, now: datetime) -> bool:
    """True when no process works on the run and its state is older than `grace`."""
    return str(run.id) not in alive and run.state is not None and now - run.state.timestamp > grace


def running_ids() -> set[str]:
    """The ids of the flow runs that processes of this machine work on."""
    return {
        str(environment[_RUN_ID])
        for environment in map(environment_of, psutil.process_iter())
        if _RUN_ID in environment
    }

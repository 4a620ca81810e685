"""Which open runs count as lost."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows.sweep import is_lost, running_ids

_NOW = datetime(2024, 3, 1, tzinfo=UTC)
_GRACE = timedelta(minutes=2)


@pytest.mark.parametrize(
    ("age", "alive", "lost"),
    [(60, set(), False), (180, set(), True), (180, {"run-1"}, False), (180, {"run-2"}, True)],
)
def test_lost_is_old_and_without_process(age: float, alive: set[str], lost: bool) -> None:
    state = SimpleNamespace(timestamp=_NOW - timedelta(seconds=age))
    assert is_lost(SimpleNamespace(id="run-1", state=state), alive, _GRACE, _NOW) is lost


def test_run_without_a_state_is_left_alone() -> None:
    assert not is_lost(SimpleNamespace(id="run-1", state=None), set(), _GRACE, _NOW)


def test_processes_tell_their_run() -> None:
    env = {**os.environ, "PREFECT__FLOW_RUN_ID": "run-of-this-test"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env) as process:
        try:
            assert "run-of-this-test" in running_ids()
        finally:
            process.kill()
    assert "run-of-this-test" not in running_ids()

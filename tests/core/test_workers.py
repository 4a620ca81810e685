"""Processes that do named tasks: what they return, what they raise, and who is named when one dies."""

import os
import signal
import sys
import time
import traceback

import psutil
import pytest

from core.errors import DataError, StageFailed
from core.workers import Task, Workers


def square(value: int) -> int:
    return value * value


def refuse(value: int) -> int:
    raise DataError(f"{value} is refused")


def blunder(value: int) -> float:
    return value / 0


def die(value: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def prepare() -> None:
    sys.modules["core.workers"].prepared = True  # type: ignore[attr-defined]


def prepared(value: int) -> bool:
    return bool(getattr(sys.modules["core.workers"], "prepared", False))


def done(count: int, *tasks: Task) -> dict[str, object]:
    with Workers(count, prepare) as workers:
        return {task.name: outcome for task, outcome in workers.outcomes(tasks)}


@pytest.mark.parametrize("count", [1, 2])
def test_every_task_is_done_once_and_faults_are_outcomes(count: int) -> None:
    tasks = [Task(f"square {k}", square, (k,)) for k in range(9)]
    found = done(count, *tasks, Task("refused", refuse, (3,)))
    fault = found.pop("refused")
    assert found == {f"square {k}": k * k for k in range(9)}
    assert isinstance(fault, DataError)
    assert str(fault) == "3 is refused"


def test_processes_are_kept_for_more_tasks() -> None:
    before = set(psutil.Process().children())
    with Workers(2, prepare) as workers:
        for _ in range(2):
            assert [outcome for _, outcome in workers.outcomes([Task("a", prepared, (1,))])] == [True]
        assert list(workers.outcomes([])) == []
    left = set(psutil.Process().children()) - before
    assert all("resource_tracker" in " ".join(child.cmdline()) for child in left)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_that_nobody_meant_is_raised_as_it_is(count: int) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        done(count, Task("the blunder", blunder, (1,)))
    assert "return value / 0" in "".join(traceback.format_exception(caught.value))
    if count > 1:
        assert "while the blunder" in caught.value.__notes__[0]


def test_a_process_that_dies_is_named_and_the_others_end() -> None:
    begun = time.monotonic()
    said = r"the dead: its process died \(exit code -9\), .*lower the number of processes \(now 2\)"
    with pytest.raises(StageFailed, match=said):
        done(2, Task("the slow", sleep, (60.0,)), Task("the dead", die, (1,)))
    assert time.monotonic() - begun < 30

"""Start, restart, give up, end: with small children in place of servers."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.spawn import Service, marked
from flows.supervise import Plan, StackEvent, Supervisor, Timing

_FAST = Timing(poll=0.02, grace=2.0, restart_window=60.0, max_restarts=2)
_SLEEP = "import time; print('at work', flush=True); time.sleep(60)"


def _service(folder: Path, name: str, code: str, ready: Callable[[], bool] = lambda: True) -> Service:
    return Service(name, (sys.executable, "-c", code), {}, folder, folder / f"{name}.log", ready)


def _run(
    plan: Plan, stop_when: Callable[[StackEvent], bool] = lambda _: False
) -> tuple[int, list[StackEvent]]:
    events: list[StackEvent] = []
    stop = threading.Event()

    def tell(event: StackEvent) -> None:
        events.append(event)
        if stop_when(event):
            stop.set()

    return Supervisor(plan, tell, stop, _FAST).run(), events


def _kinds(events: list[StackEvent]) -> list[tuple[str, str]]:
    return [(event.service, event.kind) for event in events]


def test_groups_start_in_order_with_setup_between(tmp_path: Path) -> None:
    seen = tmp_path / "setup.txt"
    plan = Plan(
        (_service(tmp_path, "first", _SLEEP),),
        _service(tmp_path, "setup", f"open({str(seen)!r}, 'w')"),
        (_service(tmp_path, "second", _SLEEP, ready=seen.exists),),
        mark=str(tmp_path),
    )
    code, events = _run(plan, lambda event: (event.service, event.kind) == ("stack", "ready"))
    assert code == 0
    assert _kinds(events) == [
        ("first", "starting"), ("first", "ready"), ("second", "starting"), ("second", "ready"),
        ("stack", "ready"), ("stack", "stopping"), ("stack", "stopped"),
    ]  # fmt: skip
    assert marked(str(tmp_path)) == []


def test_child_that_keeps_dying_ends_the_stack(tmp_path: Path) -> None:
    bad = _service(tmp_path, "bad", "print('no such table', flush=True); raise SystemExit(7)", ready=bool)
    code, events = _run(Plan((_service(tmp_path, "good", _SLEEP), bad), None, (), mark=str(tmp_path)))
    assert code == 1
    assert _kinds(events).count(("bad", "starting")) == 1 + _FAST.max_restarts
    failed = next(event for event in events if event.kind == "failed")
    assert "bad exited with code 7" in failed.message
    assert "no such table" in failed.message
    assert marked(str(tmp_path)) == []


def test_child_that_dies_once_is_started_again(tmp_path: Path) -> None:
    flag = tmp_path / "died"
    code = f"""
import pathlib, sys, time
flag = pathlib.Path({str(flag)!r})
if not flag.exists():
    flag.touch()
    sys.exit(1)
time.sleep(60)
"""
    service = _service(tmp_path, "shaky", code, ready=flag.exists)
    result, events = _run(
        Plan((service,), None, (), mark=str(tmp_path)),
        lambda event: event.kind == "starting" and event.message == "restart 1",
    )
    assert result == 0
    assert ("shaky", "exited") in _kinds(events)


def test_child_that_never_becomes_ready_ends_the_stack(tmp_path: Path) -> None:
    slow = replace(_service(tmp_path, "slow", _SLEEP, ready=bool), start_seconds=0.5)
    code, events = _run(Plan((slow,), None, (), mark=str(tmp_path)))
    assert code == 1
    assert any("slow did not become ready" in event.message for event in events)


def test_failed_setup_ends_the_stack(tmp_path: Path) -> None:
    setup = _service(tmp_path, "setup", "raise SystemExit('no pool')")
    code, events = _run(Plan((_service(tmp_path, "first", _SLEEP),), setup, (), mark=str(tmp_path)))
    assert code == 1
    assert any("no pool" in event.message for event in events)


def test_child_that_is_not_wanted_yet_waits_and_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    wanted = threading.Event()
    late = replace(
        _service(tmp_path, "late", _SLEEP), wanted=wanted.is_set, why_waiting="run `bellwether run` first"
    )
    plan = Plan((_service(tmp_path, "first", _SLEEP),), None, (late,), mark=str(tmp_path))

    def step(event: StackEvent) -> bool:
        if (event.service, event.kind) == ("stack", "ready"):
            wanted.set()
        return (event.service, event.kind) == ("late", "ready")

    code, events = _run(plan, step)
    assert code == 0
    assert [event.message for event in events if event.kind == "waiting"] == ["run `bellwether run` first"]


@pytest.mark.parametrize("kind", ["starting", "ready"])
def test_stop_during_start_leaves_nothing(tmp_path: Path, kind: str) -> None:
    plan = Plan((_service(tmp_path, "first", _SLEEP),), None, (), mark=str(tmp_path))
    code, _ = _run(plan, lambda event: event.kind == kind)
    assert code == 0
    assert marked(str(tmp_path)) == []

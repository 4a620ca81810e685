"""The supervisor: starts children in order, restarts those that die, and leaves none behind."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from core.errors import ServiceError
from flows.spawn import Child, Service, end_marked, marked, run_once

Kind = Literal["starting", "ready", "waiting", "note", "exited", "stopping", "stopped", "failed"]


@dataclass(frozen=True)
class StackEvent:
    """Something worth telling the user: which service ("stack" for the whole), what, in words."""

    service: str
    kind: Kind
    message: str
    url: str = ""


OnEvent = Callable[[StackEvent], None]


@dataclass(frozen=True)
class Timing:
    """How patient the stack is, in seconds."""

    poll: float = 0.5
    grace: float = 10.0
    restart_window: float = 600.0
    max_restarts: int = 3


@dataclass(frozen=True)
class Plan:
    """Services in order of start; `setup` runs once after the first group is ready."""

    first: tuple[Service, ...]
    setup: Service | None
    second: tuple[Service, ...]
    mark: str


class Supervisor:
    """Children and their fate. A child that dies is started again, a bounded number of times."""

    def __init__(self, layout: Plan, on_event: OnEvent, stop: threading.Event, timing: Timing) -> None:
        self._plan, self._tell, self._stop, self._timing = layout, on_event, stop, timing
        self._children: list[Child] = []
        self._waiting: set[str] = set()

    def run(self) -> int:
        """Start everything, watch it, and leave no process behind, whatever happens."""
        try:
            self._add(self._plan.first)
            self._watch(until=self._all_ready)
            if self._plan.setup and not self._stop.is_set():
                run_once(self._plan.setup, f"{self._plan.mark}:{self._plan.setup.name}", self._stop)
            if not self._stop.is_set():
                self._add(self._plan.second)
                self._watch(until=self._all_ready)
                self._announce()
            self._watch(until=lambda: False)
        except ServiceError as error:
            self._tell(StackEvent("stack", "failed", str(error)))
            return 1
        finally:
            self._end()
        return 0

    def _add(self, services: tuple[Service, ...]) -> None:
        for service in services:
            self._children.append(Child(service, f"{self._plan.mark}:{service.name}"))

    def _watch(self, until: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            for child in self._children:
                self._tend(child)
            if until():
                return
            self._stop.wait(self._timing.poll)

    def _tend(self, child: Child) -> None:
        name = child.service.name
        if child.process is None:
            if child.service.wanted():
                child.start()
                self._tell(StackEvent(name, "starting", f"log {child.service.log}"))
            elif name not in self._waiting:
                self._waiting.add(name)
                self._tell(StackEvent(name, "waiting", child.service.why_waiting))
        elif not child.running:
            self._revive(child)
        elif not child.announced:
            self._ask(child)

    def _ask(self, child: Child) -> None:
        service = child.service
        if service.ready():
            child.announced = True
            self._tell(StackEvent(service.name, "ready", service.url or "ready", service.url))
        elif monotonic() > child.deadline:
            raise ServiceError(
                f"{service.name} did not become ready in {service.start_seconds:.0f} s; "
                f"{service.log} ends:\n{child.tail()}"
            )

    def _revive(self, child: Child) -> None:
        now = monotonic()
        child.restarts = [at for at in child.restarts if now - at < self._timing.restart_window]
        what = f"exited with code {child.exit_code}; {child.service.log} ends:\n{child.tail()}"
        end_marked(child.mark)
        if len(child.restarts) >= self._timing.max_restarts:
            raise ServiceError(
                f"{child.service.name} {what}\nit was restarted {len(child.restarts)} times in "
                f"{self._timing.restart_window:.0f} s: mend the cause and start again"
            )
        child.restarts.append(now)
        self._tell(StackEvent(child.service.name, "exited", what))
        if not self._stop.wait(2.0 ** len(child.restarts) * self._timing.poll):
            child.start()
            self._tell(StackEvent(child.service.name, "starting", f"restart {len(child.restarts)}"))

    def _all_ready(self) -> bool:
        return all(
            child.announced or (child.process is None and child.service.name in self._waiting)
            for child in self._children
        )

    def _announce(self) -> None:
        if not self._stop.is_set():
            self._tell(StackEvent("stack", "ready", "all is up; ctrl-C ends it"))

    def _end(self) -> None:
        # A second ctrl-C must not cut this short: it is bounded, and it is what leaves nothing behind.
        self._stop.set()
        # Nor may a terminal that is gone.
        with suppress(OSError):
            self._tell(StackEvent("stack", "stopping", "ending every process"))
        first = {service.name for service in self._plan.first}
        for group in (
            [child for child in self._children if child.service.name not in first],
            [child for child in self._children if child.service.name in first],
        ):
            self._end_group(group)
        end_marked(self._plan.mark)
        left = len(marked(self._plan.mark))
        self._tell(StackEvent("stack", "stopped", f"{left} processes left"))

    def _end_group(self, children: list[Child]) -> None:
        deadline = monotonic() + self._timing.grace
        for child in children:
            child.interrupt()
        for child in children:
            child.end(deadline - monotonic())

"""Processes that do one named task at a time, so that whoever dies is known by name."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from core.errors import BellwetherError, StageFailed

_SECONDS = 5.0


@dataclass(frozen=True)
class Task:
    """A call, named in errors as `name`; function and arguments must be of modules, to be sent."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def outcome(self) -> Any:
        """What the call returns, or the fault that it raised on purpose."""
        try:
            return self.function(*self.arguments)
        except BellwetherError as fault:
            return fault


class Workers:
    """`count` processes between `with` and its end; one is no process at all, but the caller itself.

    `prepare` is called once in every process, before its first task. `setting` is where the user chose
    `count`, for the remedy when memory runs out.
    """

    def __init__(
        self, count: int, prepare: Callable[[], None], setting: str = "the number of processes"
    ) -> None:
        self._count, self._prepare, self._setting = count, prepare, setting
        self._processes: dict[Connection, SpawnProcess] = {}

    def __enter__(self) -> "Workers":
        if self._count > 1:
            context = get_context("spawn")
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, self._prepare), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for connection, process in self._processes.items():
            if kind is not None:  # first: a signal must not come upon one that is ending already
                process.terminate()
            connection.close()  # who waits for a task takes it for the end
        for process in self._processes.values():
            process.join(_SECONDS)
            process.kill()

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """(task, what it returned or the fault that it raised on purpose) as they are done, in any order.

        StageFailed names the task of a process that died; any other error of a task is raised as it is.
        """
        if not self._processes:
            yield from ((task, task.outcome()) for task in tasks)
            return
        waiting, busy = iter(tasks), dict[Connection, Task]()
        for connection, task in zip(self._processes, waiting, strict=False):
            busy[connection] = _sent(connection, task)
        while busy:
            ready = set(wait(list(busy)))
            for connection in [each for each in busy if each in ready]:
                yield self._received(connection, busy.pop(connection))
                for task in waiting:
                    busy[connection] = _sent(connection, task)
                    break

    def _received(self, connection: Connection, task: Task) -> tuple[Task, Any]:
        try:
            failed, outcome = connection.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[connection]
            process.join(_SECONDS)
            raise StageFailed(
                f"{task.name}: its process died (exit code {process.exitcode}), most likely for want of "
                f"memory: close other programs, or lower {self._setting} (now {self._count})"
            ) from None
        if failed:
            raise outcome
        return task, outcome


def _sent(connection: Connection, task: Task) -> Task:
    with contextlib.suppress(BrokenPipeError):  # who died is found out when its answer is due
        connection.send(task)
    return task


def _work(connection: Connection, prepare: Callable[[], None]) -> None:
    # ctrl-C reaches the whole group: the parent ends its workers, and they tidy up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prepare()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is done, or gone
        while True:
            task: Task = connection.recv()
            try:
                answer = False, task.outcome()
            except Exception as error:  # noqa: BLE001  the edge of a process
                error.add_note(f"while {task.name}, in a process of its own:\n{traceback.format_exc()}")
                answer = True, error
            connection.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is answered: an orderly end of libraries such as torch takes seconds, for nothing

"""A server in a process of its own: started on chosen cores, watched, ended with everything it started."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_SECONDS, END_SECONDS = 120.0, 15.0
SETTLE_SECONDS, QUIET_SECONDS, QUIET_CPU = 10.0, 0.3, 0.011


class NotReady(RuntimeError):
    """A server that does not get ready; the message ends with what it wrote."""


@dataclass(frozen=True)
class Command:
    """How to start a server on a port of loopback: `ready` is a path that answers 200 once it serves."""

    arguments: Sequence[str]
    port: int
    ready: str
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Running:
    """A server that is ready: `seconds` it took from the start of its process."""

    port: int
    process: psutil.Process
    seconds: float

    def cpu(self) -> float:
        """CPU seconds so far of the process and of all that it started, ended or not."""
        seconds = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])
        return seconds

    def megabytes(self) -> float:
        """Resident memory of the process, 10^6 bytes."""
        return float(self.process.memory_info().rss) / 1e6

    def settle(self) -> None:
        """Wait until the work that was put off is done: 0.3 s with next to none, or 10 s."""
        before = self.cpu()
        for _ in range(int(SETTLE_SECONDS / QUIET_SECONDS)):
            time.sleep(QUIET_SECONDS)
            now = self.cpu()
            if now - before <= QUIET_CPU:
                return
            before = now


def busy_seconds(cores: set[int]) -> float:
    """Seconds so far in which these cores did anything for anybody, another machine on the host included."""
    each = psutil.cpu_times(percpu=True)
    return float(sum(sum(each[core]) - each[core].idle - each[core].iowait for core in cores))


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile for all its life, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(command: Command, cores: set[int]) -> Iterator[Running]:
    """The server until the block ends; what it writes goes to `output.txt` in its folder.

    NotReady with the end of that file.
    """
    command.folder.mkdir(parents=True, exist_ok=True)
    output = command.folder / "output.txt"
    with output.open("wb") as file:
        started = time.perf_counter()
        with on_cores(cores):
            process = subprocess.Popen(
                list(command.arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=command.folder,
                env=dict(command.environment),
                start_new_session=True,
            )
    try:
        while not _ready(command):
            if process.poll() is not None or time.perf_counter() - started > READY_SECONDS:
                told = output.read_text(errors="replace")[-3000:]
                raise NotReady(f"{command.arguments[0]} did not get ready:\n{told}")
            time.sleep(0.002)
        yield Running(command.port, psutil.Process(process.pid), time.perf_counter() - started)
    finally:
        _end(process)


def _ready(command: Command) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", command.port, timeout=5)
    try:
        connection.request("GET", command.ready)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to all of the session that the server began, SIGKILL to what stays."""
    for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

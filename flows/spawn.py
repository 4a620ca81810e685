"""Child processes: start, watch, and end them with everything they started.

A child leads a session of its own and carries a mark in its environment that its descendants inherit.
Some of them leave the session (Prefect gives every flow run one); the mark finds those too, and whatever
a killed supervisor left behind.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from core import processes
from core.errors import ServiceError

MARK = "BELLWETHER_STACK"
_TAIL_BYTES = 16_384
_LOG_BYTES = 20_000_000
_direct = build_opener(ProxyHandler({}))


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Service:
    """One child of the stack. `ready` is asked until it says yes; `wanted` False keeps it waiting."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    ready: Callable[[], bool]
    url: str = ""
    start_seconds: float = 180.0
    wanted: Callable[[], bool] = _always
    why_waiting: str = ""


@dataclass
class Child:
    """A service and the process that runs it now."""

    service: Service
    mark: str
    process: "subprocess.Popen[bytes] | None" = None
    announced: bool = False
    deadline: float = 0.0
    restarts: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start the process; its output is appended to the log file."""
        self.process = spawn(self.service, self.mark)
        self.announced = False
        self.deadline = monotonic() + self.service.start_seconds

    @property
    def running(self) -> bool:
        """True from the start until the process has exited."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs or before it started."""
        return None if self.process is None else self.process.poll()

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        return tail(self.service.log, lines)

    def interrupt(self) -> None:
        """Ask the process to end."""
        if self.running and self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float) -> None:
        """Wait `seconds` for an interrupted process, then kill it and all that carries its mark."""
        if self.process is not None:
            try:
                self.process.wait(timeout=max(seconds, 0.0))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_marked(self.mark)


def spawn(service: Service, mark: str) -> "subprocess.Popen[bytes]":
    """Run a service's command in its own session, marked, logging to its file."""
    service.log.parent.mkdir(parents=True, exist_ok=True)
    if service.log.exists() and service.log.stat().st_size > _LOG_BYTES:
        os.replace(service.log, service.log.with_suffix(".log.old"))
    with service.log.open("ab") as log:
        try:
            return subprocess.Popen(
                service.command,
                cwd=service.directory,
                env={**service.environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServiceError(
                f"{service.name}: {service.command[0]} cannot be started ({error.strerror}): "
                "reinstall the environment"
            ) from error


def run_once(service: Service, mark: str, stop: threading.Event) -> None:
    """Run a service's command to its end, or to `stop`; ServiceError with its last lines when it fails."""
    process = spawn(service, mark)
    deadline = monotonic() + service.start_seconds
    try:
        while process.poll() is None and monotonic() < deadline and not stop.wait(0.1):
            pass
        code = process.poll()
    finally:
        process.kill()
        process.wait()
        end_marked(mark)
    if code != 0 and not stop.is_set():
        ended = "did not end in time" if code is None else f"ended with exit code {code}"
        raise ServiceError(f"{service.name} {ended}; {service.log} ends:\n{tail(service.log)}")


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a text file; empty when it does not exist."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        text = file.read().decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def marked(prefix: str) -> list[psutil.Process]:
    """Every live process whose mark is `prefix` or starts with `prefix` + ":"; never this one."""
    return processes.marked(MARK, prefix)


def end_marked(prefix: str, seconds: float = 5.0) -> int:
    """End every process that carries a mark: SIGTERM, a bounded wait, SIGKILL. Returns how many."""
    return processes.end_marked(MARK, prefix, seconds)


def answers(url: str, seconds: float = 2.0) -> bool:
    """True when a GET is answered with success, or refused for want of a token: somebody is there."""
    try:
        with _direct.open(url, timeout=seconds) as response:
            return bool(response.status < 300)
    except HTTPError as error:
        return error.code in (401, 403)
    except (URLError, OSError, ValueError):
        return False

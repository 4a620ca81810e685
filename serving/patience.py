"""Blocking calls with a limit, for disks and stores that may never answer."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from core.errors import RegistryError

T = TypeVar("T")
# A disk that has not answered by then is taken for dead; the copy of the last good bundle is local.
PATIENCE_SECONDS = 3.0
PAUSES, LONGEST_PAUSE = 10, 600.0


class _Call(Generic[T]):
    """One call in a daemon thread: a thread that hangs must not keep the process from ending."""

    def __init__(self, work: Callable[[], T], done: Callable[[], None] = lambda: None) -> None:
        self._work, self._done = work, done
        self._result: T | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="patience", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            self._error = error
        self._done()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Patience:
    """Calls that raise RegistryError when they take longer than `seconds`.

    A call that hangs is left to itself. Until it ends the next ones fail at once, but for one try after
    ten times `seconds`, then after twice as long and so on: a store that never answers costs a thread now
    and then, not one per poll, and one that comes back is found again.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._hanging: threading.Thread | None = None
        self._pause = self._retry_at = 0.0

    def call(self, work: Callable[[], T], what: str) -> T:
        """The result of `work()`; its errors pass through."""
        hangs = self._hanging is not None and self._hanging.is_alive()
        if hangs and time.monotonic() < self._retry_at:
            raise self._error(what)
        call = _Call(work)
        call.thread.join(self.seconds)
        if call.thread.is_alive():
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if hangs else PAUSES * self.seconds
            self._hanging, self._retry_at = call.thread, time.monotonic() + self._pause
            raise self._error(what)
        self._hanging = None
        return call.result()

    def _error(self, what: str) -> RegistryError:
        return RegistryError(
            f"{what} did not answer within {self.seconds:g} s: check the disk or mount it is on"
        )


async def in_thread(work: Callable[[], T]) -> T:
    """`work()` in a daemon thread, awaited; unlike asyncio.to_thread it never keeps a process from ending."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        # the loop may have ended meanwhile
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    call = _Call(work, tell)
    await done.wait()
    return call.result()

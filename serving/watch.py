"""The watch on newer models: looking and loading in threads, swapping between two requests."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from serving.patience import in_thread
from serving.plane import Plane
from serving.slot import Slot

Discover = Callable[[], Sequence[Slot]]


class Watch:
    """Every `poll_seconds`: newer bundles of the models served, challengers, and models that appeared."""

    def __init__(self, plane: Plane, poll_seconds: float, discover: Discover | None = None) -> None:
        self._plane, self._poll_seconds, self._discover = plane, poll_seconds, discover
        self._logger = structlog.get_logger(component="serving")

    async def run(self) -> None:
        """Watch until cancelled; no fault ends it."""
        while True:
            started = time.monotonic()
            await self._guarded(self._look_all)
            await asyncio.sleep(max(0.01, self._poll_seconds - (time.monotonic() - started)))

    async def _look_all(self) -> None:
        for slot in list(self._plane.slots):
            await self._guarded(lambda slot=slot: self._look(slot))  # type: ignore[misc]
        if self._discover is not None:
            for slot in await in_thread(self._discover):
                self._plane.slots.append(slot)

    async def _look(self, slot: Slot) -> None:
        loaded = await in_thread(slot.look)
        if loaded is not None:
            await self._plane.swap(slot, loaded)
        if slot.challenger is not None and slot.current is not None:
            champion = slot.current
            found = await in_thread(lambda: slot.challenger.look(champion))  # type: ignore[union-attr]
            slot.challenger.install(found, champion)

    async def _guarded(self, work: Callable[[], object]) -> None:
        try:
            await work()  # type: ignore[misc]
        except Exception as error:
            self._logger.error("watch_failed", exc_info=error)

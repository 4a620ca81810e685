"""`bellwether up`: the whole stack on loopback until interrupted."""

import threading

from core.settings import Settings
from flows.stack import up as run_stack
from flows.supervise import OnEvent, StackEvent, Timing

__all__ = ["OnEvent", "StackEvent", "Timing", "up"]


def up(
    settings: Settings,
    on_event: OnEvent,
    *,
    stop: threading.Event | None = None,
    timing: Timing | None = None,
) -> int:
    """Run Prefect server and worker, MLflow UI and the service; returns the exit code.

    `on_event` is called for each start, readiness, exit and end. ServiceError, before anything is started,
    for a busy port or a stack that runs already.
    """
    return run_stack(settings, on_event, stop=stop, timing=timing)

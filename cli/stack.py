"""`bellwether up`: what the stack says while it runs."""

import sys

from rich.markup import escape

from cli.output import console
from core.settings import disable_telemetry, load_settings
from flows.stack import up as run_stack
from flows.supervise import StackEvent

_MARKS = {
    "ready": "[green]✓[/green]",
    "failed": "[red]✗[/red]",
    "exited": "[yellow]![/yellow]",
    "waiting": "[yellow]…[/yellow]",
}


def up() -> None:
    """Run until interrupted; exits 1 when a part keeps failing."""
    disable_telemetry()
    code = run_stack(load_settings(), _tell)
    if code:
        sys.exit(code)


def _tell(event: StackEvent) -> None:
    mark = _MARKS.get(event.kind, "·")
    console.print(f"{mark} {event.service:<9}{event.kind:<9}{escape(event.message)}")

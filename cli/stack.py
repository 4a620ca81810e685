"""`bellwether up`: what the stack says while it runs."""

import sys

from rich.markup import escape

from cli.output import console
from cli.up import StackEvent
from cli.up import up as run_stack
from core.settings import disable_telemetry, load_settings

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

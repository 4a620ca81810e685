"""`bellwether doctor`: the findings, and how to mend them."""

import sys
from dataclasses import asdict

from rich.markup import escape

from cli.doctor import Check, checks
from cli.output import console, emit_json
from core.settings import load_settings


def doctor(*, as_json: bool) -> None:
    """Print every finding; exits 1 when something required is wrong."""
    found = checks(load_settings())
    healthy = all(check.ok or not check.required for check in found)
    if as_json:
        emit_json({"healthy": healthy, "checks": [asdict(check) for check in found]})
    else:
        for check in found:
            _show(check)
        console.print("all is well" if healthy else "[red]something needs mending: see above[/red]")
    sys.exit(0 if healthy else 1)


def _show(check: Check) -> None:
    width = 20
    mark = "[green]✓[/green]" if check.ok else "[red]✗[/red]" if check.required else "[yellow]![/yellow]"
    console.print(f"{mark} {check.name:<{width}}{escape(check.detail)}")
    if check.remedy:
        console.print(f"  {'':<{width}}→ {escape(check.remedy)}")

"""`bellwether run`: a line per stage, then the summary."""

from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.markup import escape

from cli.output import console, emit_json, notes
from cli.run_summary import show
from core.settings import disable_telemetry, load_settings


def run(assignments: list[str], *, isolated: bool, as_json: bool) -> None:
    """Run the main job and print what happened."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.job import run as run_job
    from pipelines.params import parse_overrides
    from pipelines.workspace import absolute_paths

    overrides = absolute_paths(parse_overrides(assignments), Path.cwd())
    with _Progress(notes if as_json else console) as progress:
        summary = run_job(settings, overrides, isolated=isolated, on_step=progress)
    if as_json:
        emit_json(summary.to_json())
        return
    show(summary)


class _Progress:
    """Prints a line when a step ends; on a terminal a spinner tells what runs and for how long."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._status = out.status("starting")
        self._begin = perf_counter()

    def __enter__(self) -> "_Progress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, step: str, state: str, seconds: float, headline: str) -> None:
        if state == "running":
            self._status.update(f"{step} …")
            return
        mark = "[dim]=[/dim]" if state == "unchanged" else "[green]✓[/green]"
        took = "unchanged" if state == "unchanged" else f"{seconds:.1f} s"
        self._out.print(f"{mark} {step:<9} {took:>9}  {escape(headline)}")

"""`bellwether replay`: stored bars as if they were live."""

from pathlib import Path

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import console, emit_json, notes
from core.settings import disable_telemetry, load_settings


def replay(
    start: str | None,
    until: str | None,
    model: str | None,
    url: str | None,
    assignments: list[str],
    *,
    as_json: bool,
) -> None:
    """Post bars and count what the service said."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.params import parse_overrides
    from pipelines.replay import replay as run
    from pipelines.workspace import absolute_paths

    overrides = absolute_paths(parse_overrides(assignments), Path.cwd())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("replaying bars", total=None)
        done = run(
            settings,
            model,
            start=start,
            until=until,
            url=url,
            overrides=overrides,
            on_progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    if as_json:
        emit_json(msgspec.to_builtins(done))
        return
    seen = done.summary
    console.print(f"{done.model} version {done.version}: {seen.bars} bars, {seen.first} … {seen.last}")
    sides = ", ".join(f"{count} {side}" for side, count in sorted(seen.sides.items()))
    console.print(f"signals   {sides}")
    console.print(f"took      {seen.seconds:.1f} s, {seen.bars / seen.seconds:.0f} bars/s")
    console.print(f"next      {next_command(done.model, start, until)}")


def next_command(model: str, start: str | None, until: str | None) -> str:
    """The command that judges the days just replayed, and no others."""
    days = (f" --{name} {day}" for name, day in (("from", start), ("until", until)) if day)
    return f"bellwether drift --model {model}{''.join(days)}"

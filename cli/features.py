"""`bellwether features`: list what is there, explain one, compute some, look for leaks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import console, emit_json, notes, table
from core.errors import UsageError
from core.settings import disable_telemetry, load_settings

if TYPE_CHECKING:
    from pipelines.feature_tools import Tools


@dataclass(frozen=True)
class Request:
    """What was asked for; paths are the user's, relative to where they stand."""

    search: str | None = None
    explain: str | None = None
    compute: Path | None = None
    check: bool = False
    names: Sequence[str] = ()
    bars: Path | None = None
    page: Path | None = None
    assignments: Sequence[str] = ()
    catalog: str | None = None
    universe: Path | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        asked = {"--explain": self.explain, "--compute": self.compute, "--check": self.check}
        verbs = [option for option, value in asked.items() if value]
        if len(verbs) + (self.search is not None) > 1:
            shown = [repr(self.search), *verbs] if self.search is not None else verbs
            raise UsageError(f"{' and '.join(shown)}: ask for one of them at a time")
        if self.names and not {"--compute", "--check"} & set(verbs):
            raise UsageError("--name narrows --compute and --check: add one of them")
        if self.bars and not verbs:
            raise UsageError("--bars gives data to --explain, --compute or --check: add one of them")
        if self.universe and not {"--compute", "--check"} & set(verbs):
            raise UsageError("--universe gives data to --compute or --check: add one of them")
        if self.universe and self.bars:
            raise UsageError("--bars is one symbol, --universe a file of each: give one of them")
        if self.processes and not (self.universe and self.compute):
            raise UsageError("--processes is for --universe DIR --compute DIR")
        if self.page and not self.explain:
            raise UsageError("--page is where --explain writes: add --explain NAME")


def features(request: Request, *, as_json: bool) -> None:
    """Do what was asked; `--check` exits 1 when a probe holds something against a feature."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.feature_tools import Tools
    from pipelines.params import parse_overrides
    from pipelines.workspace import absolute_paths

    overrides = absolute_paths(parse_overrides(request.assignments), Path.cwd())
    tools = Tools.open(settings, overrides, request.catalog, universe=request.universe is not None)
    if request.explain:
        _explain(tools, request, as_json=as_json)
    elif request.universe and request.compute:
        _compute_universe(tools, request, as_json=as_json)
    elif request.compute:
        _compute(tools, request, as_json=as_json)
    elif request.check:
        _check(tools, request, as_json=as_json)
    else:
        _list(tools, request.search, as_json=as_json)


def _list(tools: "Tools", search: str | None, *, as_json: bool) -> None:
    from features.catalogue import CATALOGUES
    from pipelines.feature_tools import matching

    known, catalog = tools.described(), tools.params.features.catalog
    chosen = known if search is None else matching(known, search)
    if as_json:
        keys = ("name", "expression", "group", "range", "source", "warmup", "excluded")
        emit_json([{key: getattr(feature, key) for key in keys} for feature in chosen])
        return
    cells = [
        [f.name, f.group + (", left out" if f.excluded else ""), f.range, str(f.warmup), f.expression]
        for f in chosen
    ]
    rows = [[escape(cell) for cell in line] for line in cells]
    console.print(table(["name", "group", "range", "warm-up", "formula"], rows, right=["warm-up"]))
    console.print(f"[dim]{len(rows)} of {len(known)} features of catalogue {catalog}[/dim]")
    for other, entries in CATALOGUES.items():
        found = len(entries if search is None else matching(entries, search))
        if other != catalog and found:
            console.print(f"[dim]{found} with --catalog {other}[/dim]")


def _explain(tools: "Tools", request: Request, *, as_json: bool) -> None:
    from pipelines.feature_tools import explain

    name = str(request.explain)
    bars = tools.bars(_file(request)) if request.bars or request.assignments else tools.stored_bars()
    page = request.page or tools.settings.var_dir / "features" / f"{name}.html"
    found = explain(tools, name, bars, Path.cwd() / page)
    if as_json:
        emit_json(found)
        return
    _line("feature", f"{found['name']}{' (left out of runs)' if found['excluded'] else ''}")
    for key, title in (("formula", "formula"), ("expanded", "expanded"), ("group", "group")):
        _line(title, found[key])
    _line("range", found["range"] or "not stated")
    _line("source", found["source"])
    _line("warm-up", f"{found['warmup']} bars")
    for number, (how, meaning) in enumerate(found["operators"].items()):
        _line("operators" if not number else "", f"{how:<28}{meaning}")
    _line("bars", found["bars"])
    figures = {key: "none" if value is None else f"{value:.6g}" for key, value in found["statistics"].items()}
    if found["statistics"]["rows"] <= found["warmup"]:
        figures = {"none:": f"{name} has its first after {found['warmup']} bars, there are {figures['rows']}"}
    _line("values", ", ".join(f"{key} {value}" for key, value in figures.items()))
    _line("page", found["page"])


def _compute(tools: "Tools", request: Request, *, as_json: bool) -> None:
    from pipelines.feature_tools import compute

    with notes.status("reading and validating bars …"):
        bars = tools.bars(_file(request))
    with _progress() as progress:
        task = progress.add_task("writing rows", total=len(bars.frame))
        target = Path.cwd() / Path(str(request.compute))
        done = compute(tools, request.names, bars, target, lambda count: progress.advance(task, count))
    if as_json:
        emit_json(done)
        return
    _line("bars", f"{done['bars']}: {_span(done)}")
    _line("features", f"{len(done['features'])} columns, float64, missing before warm-up")
    _line("written", done["file"])


def _compute_universe(tools: "Tools", request: Request, *, as_json: bool) -> None:
    from pipelines.universe import compute

    folder, target = _under_here(request.universe), _under_here(request.compute)
    with _progress() as progress:
        task = progress.add_task("validating, computing, comparing", total=None)
        done = compute(
            tools,
            request.names,
            folder,
            target,
            request.processes,
            lambda steps, total: progress.update(task, completed=steps, total=total),
        )
    if as_json:
        emit_json(done)
        return
    symbols = done["symbols"]
    _line("symbols", f"{len(symbols)} of {folder.name}: {_span(done)}")
    _line("features", f"{len(done['features'])} columns, float64, missing before warm-up")
    short = [symbol for symbol, facts in symbols.items() if facts["rows"] <= done["warmup"]]
    if short:
        _line(
            "short", f"{len(short)} with at most {done['warmup']} bars, the warm-up: {', '.join(short[:9])}"
        )
    _line("written", done["directory"])


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)


def _check(tools: "Tools", request: Request, *, as_json: bool) -> None:
    found = _universe_findings(tools, request) if request.universe else _findings(tools, request)
    if as_json:
        emit_json({"clean": not found["findings"], **found})
    else:
        _show_findings(found)
    sys.exit(1 if found["findings"] else 0)


def _findings(tools: "Tools", request: Request) -> dict[str, Any]:
    from pipelines.feature_tools import look_for_leaks

    with notes.status("reading and validating bars …"):
        bars = tools.bars(_file(request))
    with notes.status("looking for leaks …"):
        return look_for_leaks(tools, request.names, bars)


def _universe_findings(tools: "Tools", request: Request) -> dict[str, Any]:
    from pipelines.universe import look_for_leaks

    with notes.status("validating bars and looking for leaks …"):
        return look_for_leaks(tools, request.names, _under_here(request.universe))


def _show_findings(found: dict[str, Any]) -> None:
    _line("bars", f"{found['bars']}: {_span(found)}")
    for name, meaning in found["probes"].items():
        held = [f for f in found["findings"] if f["probe"] == name]
        mark = "[red]✗[/red]" if held else "[green]✓[/green]"
        console.print(f"{mark} {name:<9}{escape(meaning)}")
        for finding in held:
            console.print(f"    [red]{finding['feature']}[/red]: {escape(finding['detail'])}")
    offenders = sorted({f["feature"] for f in found["findings"]})
    total = len(found["features"])
    if offenders:
        console.print(f"[red]{len(offenders)} of {total} features: {', '.join(offenders)}[/red]")
    else:
        console.print(f"{total} features: nothing is held against any of them")


def _file(request: Request) -> Path | None:
    return _under_here(request.bars) if request.bars else None


def _under_here(path: Path | None) -> Path:
    return Path.cwd() / Path(str(path)).expanduser()


def _span(found: dict[str, Any]) -> str:
    return f"{found['first'][:10]} … {found['last'][:10]}, {found['rows']} bars"


def _line(name: str, text: str) -> None:
    console.print(f"[bold]{name:<11}[/bold]{escape(text)}")

"""`bellwether models`, `promote`, `rollback`."""

import getpass
from dataclasses import dataclass
from typing import Any

from cli.output import console, emit_json
from core.settings import Settings, disable_telemetry, load_settings


@dataclass(frozen=True)
class Request:
    """What `bellwether models` was asked: versions by number, all when none is named."""

    model: str | None = None
    versions: tuple[str, ...] = ()
    side_by_side: bool = False
    history: bool = False


def models(request: Request, *, as_json: bool) -> None:
    """Versions with their evidence, newest first, or the history of champions."""
    disable_telemetry()
    settings = load_settings()
    from cli import versions as view
    from pipelines.promotion import open_registry, resolve_model

    registry = open_registry(settings)
    one = request.model or request.versions
    names = [resolve_model(registry, request.model)] if one else registry.models()
    if request.history:
        moves = [{"model": name, **move} for name in names for move in registry.champion_history(name)]
        emit_json(moves) if as_json else view.show_history(moves)
        return
    found = [_gather(registry, settings, name, request) for name in names]
    if as_json:
        emit_json([row for _, versions, rivals in found for row in view.rows(versions, rivals)])
    elif not found:
        console.print("no model is registered: run `bellwether run`")
    for name, versions, rivals in () if as_json else found:
        view.show(name, versions, rivals, side_by_side=request.side_by_side or bool(request.versions))


def _gather(registry: Any, settings: Settings, model: str, request: Request) -> tuple[str, list[Any], Any]:
    """The versions of a model that were asked for, and the paired comparison of two of them."""
    from pipelines.promotion import find
    from pipelines.version_evidence import describe, rivals

    named = [find(registry, model, number) for number in request.versions]
    versions = [describe(registry, version) for version in named or registry.versions(model)]
    return model, versions, rivals(registry, settings, model, request.versions)


def promote(version: str | None, model: str | None, *, force: bool, reason: str, as_json: bool) -> None:
    """Ask the gate, then move the alias."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.promotion import promote as ask

    done = ask(settings, model, version, force=force, reason=reason, by=getpass.getuser())
    _report(done, as_json=as_json)


def rollback(model: str | None, *, reason: str, as_json: bool) -> None:
    """Move the alias back."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.promotion import rollback as ask

    _report(ask(settings, model, reason=reason, by=getpass.getuser()), as_json=as_json)


def _report(placed: Any, *, as_json: bool) -> None:
    if as_json:
        facts = {"model": placed.model, "version": placed.version, "alias": placed.alias}
        emit_json({**facts, "why": placed.explanation, "overruled": list(placed.reasons)})
        return
    console.print(
        f"{placed.model} version {placed.version} is {placed.alias}: {placed.explanation}", markup=False
    )

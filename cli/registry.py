"""`bellwether models`, `promote`, `rollback`."""

import getpass
from typing import Any

from cli.output import console, emit_json, table
from core.settings import disable_telemetry, load_settings

_SHOWN = ("log_loss", "auc", "brier", "ece", "sharpe", "max_drawdown", "deflated_sharpe")


def models(model: str | None, *, as_json: bool) -> None:
    """Versions with their evidence, newest first."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.promotion import open_registry, resolve_model

    registry = open_registry(settings)
    names = [resolve_model(registry, model)] if model else registry.models()
    rows = [_row(registry, version) for name in names for version in registry.versions(name)]
    if as_json:
        emit_json(rows)
        return
    if not rows:
        console.print("no model is registered: run `bellwether run`")
        return
    columns = [
        "model",
        "version",
        "alias",
        "as of",
        "tradable",
        "log-loss",
        "AUC",
        "Sharpe",
        "drawdown",
        "deflated",
    ]
    console.print(table(columns, [_cells(row) for row in rows], right=columns[5:]))


def promote(version: str | None, model: str | None, *, force: bool, as_json: bool) -> None:
    """Ask the gate, then move the alias."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.promotion import promote as ask

    _report(ask(settings, model, version, force=force, by=getpass.getuser()), as_json=as_json)


def rollback(model: str | None, *, as_json: bool) -> None:
    """Move the alias back."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.promotion import rollback as ask

    _report(ask(settings, model), as_json=as_json)


def _row(registry: Any, version: Any) -> dict[str, Any]:
    metrics = registry.metrics(version.run_id)
    return {
        "model": version.model,
        "version": version.version,
        "aliases": list(version.aliases),
        "as_of": version.tags.get("as_of"),
        "data_hash": version.tags.get("data_hash"),
        "commit": version.tags.get("commit"),
        "tradable": version.tags.get("tradable") == "true",
        "trials": int(version.tags.get("trials", 0)),
        "directory": str(version.directory),
        "created": version.created.isoformat(),
        **{name: metrics.get(f"ensemble.{name}") for name in _SHOWN},
    }


def _cells(row: dict[str, Any]) -> list[str]:
    def figure(name: str, form: str) -> str:
        return "–" if row[name] is None else format(row[name], form)

    return [
        row["model"],
        row["version"],
        ", ".join(row["aliases"]) or "–",
        (row["as_of"] or "–")[:10],
        "yes" if row["tradable"] else "no",
        figure("log_loss", ".4f"),
        figure("auc", ".3f"),
        figure("sharpe", ".2f"),
        figure("max_drawdown", ".1%"),
        figure("deflated_sharpe", ".3f"),
    ]


def _report(placed: Any, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "model": placed.model,
                "version": placed.version,
                "alias": placed.alias,
                "why": placed.explanation,
            }
        )
        return
    console.print(f"{placed.model} version {placed.version} is {placed.alias}: {placed.explanation}")

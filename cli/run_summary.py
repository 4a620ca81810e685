"""The summary of a run, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from cli.output import console, number, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipelines.summary import RunSummary

_WIDTH = 11


def show(summary: RunSummary) -> None:
    """Print the whole summary."""
    console.print()
    _line("data", _data(summary))
    _line("checked", _validation(summary))
    _line("features", f"{summary.features}, warm after {summary.warmup} bars")
    console.print()
    console.print(_models(summary))
    console.print(
        f"[dim]{summary.out_of_sample_rows} out-of-sample rows, the same for all; money is net of costs; "
        f"deflated over {summary.trials} trials[/dim]"
    )
    console.print()
    for check in summary.checks:
        mark = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        console.print(f"  {mark}  {check.kind:<9}  {escape(check.reason)}")
    console.print()
    _line("model", _version(summary))
    _line("", escape(summary.explanation))
    _line("bundle", summary.bundle)
    for name, path in summary.reports.items():
        _line(name, path)
    _line("took", f"{summary.seconds:.0f} s at commit {summary.commit[:10]}{_dirty(summary)}")
    console.print("\nnext")
    for step in summary.next_steps:
        console.print(f"  {escape(step)}")


def _line(name: str, text: str) -> None:
    console.print(f"[bold]{name:<{_WIDTH}}[/bold]{text}")


def _data(summary: RunSummary) -> str:
    data = summary.data
    span = f"{data.first[:10]} … {data.last[:10]}"
    return (
        f"{data.symbol} {data.timeframe} from {data.source}: {span}, {data.rows} bars, hash {data.hash[:12]}"
    )


def _validation(summary: RunSummary) -> str:
    found = summary.validation
    failed = f", not met: {', '.join(found.failed)}" if found.failed else ", all met"
    return f"{found.rules} rules{failed}; {found.quarantined} rows quarantined"


def _models(summary: RunSummary) -> RenderableType:
    columns = ["model", "log-loss", "AUC", "Brier", "ECE", "Sharpe", "drawdown", "deflated"]
    rows = [
        [
            model.name,
            number(model.log_loss, 4),
            number(model.auc),
            number(model.brier, 4),
            number(model.ece),
            number(model.sharpe, 2),
            f"{model.max_drawdown:.1%}",
            number(model.deflated_sharpe),
        ]
        for model in summary.models
    ]
    return table(columns, rows, right=columns[1:])


def _version(summary: RunSummary) -> str:
    known = " (identical to it, not registered again)" if summary.existing else ""
    trade = (
        "[green]tradable[/green]"
        if summary.tradable
        else "[yellow]not tradable: every signal is hold[/yellow]"
    )
    alias = summary.alias or "no alias"
    return f"{summary.model} version {summary.version}{known}, {alias}, {trade}"


def _dirty(summary: RunSummary) -> str:
    return " plus uncommitted changes" if summary.dirty else ""

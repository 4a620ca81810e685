"""`bellwether backtest`: the out-of-sample record of the last run."""

from cli.output import console, emit_json, number, table
from core.errors import ArtifactError
from core.settings import load_settings

_COLUMNS = ("sharpe", "cagr", "volatility", "max_drawdown", "trades", "exposure", "costs")


def backtest(*, as_json: bool) -> None:
    """Show every model's backtest net of costs, from the checkout's last run."""
    settings = load_settings()
    from core.files import read_json
    from pipelines.workspace import STORE

    path = settings.home / STORE / "evaluate" / "evidence.json"
    if not path.exists():
        raise ArtifactError(
            f"nothing was evaluated in {settings.home} yet: run `bellwether run` first "
            "(with --set it works in a tree of its own)"
        )
    evidence = read_json(path)
    figures = {**evidence["backtests"], "buy and hold": evidence["benchmark"]}
    if as_json:
        emit_json(figures)
        return
    rows = [
        [name, *(_cell(column, values.get(column)) for column in _COLUMNS)]
        for name, values in figures.items()
    ]
    console.print(table(["model", *_COLUMNS], rows, right=_COLUMNS))
    console.print(
        f"[dim]{evidence['rows']} bars out of sample; decided at the close, filled at the next open, "
        "net of costs[/dim]"
    )


def _cell(column: str, value: float | None) -> str:
    if column == "trades":
        return f"{value:.0f}"
    if column in ("sharpe", "costs"):
        return number(value, 2)
    return "–" if value is None else f"{value:.1%}"

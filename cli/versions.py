"""Model versions for a person: figures side by side, the rules that fail, challenger against champion."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from cli.output import console, number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipelines.promotion import Rivals
    from pipelines.version_evidence import VersionEvidence

MOST_SIDE_BY_SIDE = 4
_BETTER = "[bold green]{}[/bold green] *"


@dataclass(frozen=True)
class Line:
    """A figure: how it reads, and a number that is larger the better it is; None for what is no merit."""

    name: str
    text: Callable[["VersionEvidence"], str]
    merit: Callable[["VersionEvidence"], float | None] | None = None


def rows(versions: Sequence["VersionEvidence"], rivals: "Rivals | None") -> list[dict[str, Any]]:
    """Versions as plain values; `paired` stands with the challenger of the comparison."""
    return [
        {**asdict(v), "verdict": v.verdict, "paired": _plain(rivals) if _is_challenger(v, rivals) else None}
        for v in versions
    ]


def show(
    model: str, versions: Sequence["VersionEvidence"], rivals: "Rivals | None", *, side_by_side: bool
) -> None:
    """Print one model: a column per version when they are few or it was asked for, else a line each."""
    _print(f"[bold]{escape(model)}[/bold]")
    if side_by_side or len(versions) <= MOST_SIDE_BY_SIDE:
        _print(_side_by_side(versions))
        _print("[dim]* the better figure; each over the version's own rows[/dim]")
        explained: Iterable[VersionEvidence] = versions
    else:
        for lines in (_FORECAST, _MONEY, (_GATE, _FAILS)):
            _print(_listed(versions, lines))
            _print()
        _print("[dim]`bellwether models 3 5` sets versions side by side and says why they fail[/dim]")
        explained = (v for v in versions if v.aliases)
    for version in explained:
        _explain(version)
    if rivals is not None:
        _show_rivals(rivals)


def show_history(moves: Sequence[Mapping[str, str]]) -> None:
    """Who was champion when and why, oldest first."""
    if not moves:
        _print("there was no champion yet")
        return
    grid = _grid(["model", "version", "since (UTC)", "how", "by", "why"])
    grid.columns[-1].no_wrap = False
    for move in moves:
        since = move["at"][:19].replace("T", " ")
        told = (move["model"], move["version"], since, move["move"], move["by"] or "–", move["reason"] or "–")
        grid.add_row(*(escape(part) for part in told))
    _print(grid)


def _signed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(v: "VersionEvidence") -> str:
    return "–" if v.sharpe_low is None else f"{v.sharpe_low:.2f} … {v.sharpe_high:.2f}"


def _in_words(rule: str) -> str:
    return rule.replace("_", " ").replace("sharpe", "Sharpe")


def _opposite(value: float | None) -> float | None:
    return None if value is None else -value


_FORECAST = (
    Line("as of", lambda v: (v.as_of or "–")[:10]),
    Line("models", lambda v: f"{v.method or '–'} of {len(v.families)}"),
    Line("rows", lambda v: "–" if v.rows is None else f"{v.rows:,}"),
    Line("log-loss", lambda v: number(v.log_loss, 5), lambda v: _opposite(v.log_loss)),
    Line("gain", lambda v: _signed(v.gain, 5), lambda v: v.gain),
    Line("p of gain", lambda v: number(v.gain_p), lambda v: _opposite(v.gain_p)),
    Line("Brier", lambda v: number(v.brier, 4), lambda v: _opposite(v.brier)),
    Line("AUC", lambda v: number(v.auc), lambda v: v.auc),
    Line("ECE", lambda v: number(v.ece), lambda v: _opposite(v.ece)),
)
_MONEY = (
    Line("Sharpe", lambda v: number(v.sharpe, 2), lambda v: v.sharpe),
    Line("95 % interval", _interval),
    Line("drawdown", lambda v: _share(v.max_drawdown), lambda v: v.max_drawdown),
    Line("trades", lambda v: "–" if v.trades is None else f"{v.trades:,}"),
    Line("deflated", lambda v: number(v.deflated_sharpe), lambda v: v.deflated_sharpe),
    Line("trials", lambda v: f"{v.trials:,}"),
    Line("PBO", lambda v: number(v.pbo, 2), lambda v: _opposite(v.pbo)),
)
_NAMES = Line("of", lambda v: escape(", ".join(v.families)) or "–")
_LABEL = Line("label", lambda v: escape(", ".join(f"{k} {x}" for k, x in v.label.items())))
_GATE = Line("gate", lambda v: _verdict(v))
_FAILS = Line("fails", lambda v: ", ".join(_in_words(rule) for rule in v.failing) or "–")
_WORDS = (*_FORECAST[:2], _GATE, _FAILS)


def _verdict(v: "VersionEvidence") -> str:
    colour = {"may trade": "green", "may serve": "yellow"}.get(v.verdict, "red")
    forced = ", forced" if v.overrides else ""
    return f"[{colour}]{v.verdict}[/{colour}]{forced}{', [red]damaged[/red]' if v.damaged else ''}"


def _name(v: "VersionEvidence") -> str:
    return " ".join((v.version, *v.aliases))


def _side_by_side(versions: Sequence["VersionEvidence"]) -> "RenderableType":
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    grid.add_column("", no_wrap=True)
    for version in versions:
        grid.add_column(escape(_name(version)), overflow="fold")
    for line in (*_FORECAST[:2], _NAMES, _LABEL, *_FORECAST[2:], *_MONEY, _GATE, _FAILS):
        grid.add_row(line.name, *_marked(line, versions))
    return grid


def _marked(line: Line, versions: Sequence["VersionEvidence"]) -> list[str]:
    """The texts of a line, the best of them marked; none where all read alike or labels differ."""
    texts = [line.text(v) for v in versions]
    merits = [line.merit(v) if line.merit else None for v in versions]
    known = [merit for merit in merits if merit is not None]
    alike = line in _MONEY or all(v.label == versions[0].label for v in versions)
    if len(known) < 2 or len(set(texts)) == 1 or not alike:
        return texts
    best = {text for text, merit in zip(texts, merits, strict=True) if merit == max(known)}
    return [_BETTER.format(text) if text in best else text for text in texts]


def _listed(versions: Sequence["VersionEvidence"], lines: Sequence[Line]) -> "RenderableType":
    grid = _grid(["version", *(line.name for line in lines)])
    for column, line in zip(grid.columns[1:], lines, strict=True):
        column.justify = "left" if line in _WORDS else "right"
        column.no_wrap = line is not _FAILS
    for version in versions:
        grid.add_row(_name(version), *(line.text(version) for line in lines))
    return grid


def _explain(v: "VersionEvidence") -> None:
    """What stands between a version and trading, and who overruled it."""
    said = [*v.reasons]
    said += [f"damaged: {v.damaged}"] if v.damaged else []
    said += [
        f"forced by {o['by'] or 'unknown'} on {o['at'][:16].replace('T', ' ')} UTC in place of "
        f"{'version ' + o['replaced'] if o['replaced'] else 'none'}: {o['reason']}; "
        f"against: {'; '.join(o['against'])}"
        for o in v.overrides
    ]
    if not said:
        return
    _print(f"\n[bold]{escape(_name(v))}[/bold] {_verdict(v)}")
    listed = Table.grid(padding=(0, 1))
    for reason in said:
        listed.add_row("  -", escape(reason))
    _print(listed)


def _show_rivals(rivals: "Rivals") -> None:
    found = rivals.found
    _print(f"\n[bold]{rivals.challenger} against {rivals.champion}, on the same rows[/bold]")
    if found is not None and found.difference is not None:
        grid = _grid(
            [
                "rows",
                f"log-loss of {rivals.champion}",
                f"of {rivals.challenger}",
                "difference",
                "95 % interval",
                "p",
            ]
        )
        bounds = "–" if found.low is None else f"{found.low:+.5f} … {found.high:+.5f}"
        figures = (number(found.champion, 5), number(found.challenger, 5), _signed(found.difference, 5))
        grid.add_row(f"{found.rows:,}", *figures, bounds, number(found.p_not_worse))
        _print(grid)
        _print(f"[dim]p that {rivals.challenger} is no worse: Diebold-Mariano, one-sided[/dim]")
    word = "[green]may replace it[/green]" if rivals.check.passed else "[red]is refused[/red]"
    _print(f"{rivals.challenger} {word}: {escape(rivals.check.reason)}")


def _plain(rivals: "Rivals | None") -> dict[str, Any]:
    assert rivals is not None
    found = asdict(rivals.found) if rivals.found is not None else {}
    return {
        **found,
        "against": rivals.champion,
        "passed": rivals.check.passed,
        "reason": rivals.check.reason,
    }


def _is_challenger(v: "VersionEvidence", rivals: "Rivals | None") -> bool:
    return rivals is not None and v.version == rivals.challenger


def _grid(columns: Sequence[str]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=True)
    return grid


def _print(what: "RenderableType" = "") -> None:
    console.print(what, soft_wrap=False)

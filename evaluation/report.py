"""The evaluation report: one HTML page that opens offline and says first what was decided and why.

No script, no link to anywhere: tables and inline SVG. The same input gives the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation import classification, plots, readings
from evaluation.verdict import Check, Verdict, next_step

Vector = npt.NDArray[np.float64]

# features shown by importance
_FEATURES = 14
_STYLE = """
:root { color: #1c2733; background: #f4f6f8; font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
body { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 25px; margin: 0; } h2 { font-size: 17px; margin: 34px 0 10px; }
p { margin: 4px 0; } .muted { color: #6b7785; } .note { color: #6b7785; font-size: 13px; }
.banner { border-left: 7px solid; border-radius: 8px; padding: 16px 20px; margin: 18px 0; background: #fff; }
.banner strong { font-size: 20px; } .banner ul { margin: 8px 0 0; padding-left: 20px; }
.yes { border-color: #2c8a63; } .partly { border-color: #c77d19; } .no { border-color: #b3392f; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.tile, .card { background: #fff; border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: #6b7785; font-size: 13px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); gap: 14px; }
.card { margin-bottom: 14px; overflow-x: auto; } .card h3 { font-size: 14px; margin: 0 0 6px; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid #e4e8ec; vertical-align: top; }
th { color: #6b7785; font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
tr.primary td { font-weight: 650; background: #f2f6fb; } td.key { color: #6b7785; width: 26%; }
td.value { overflow-wrap: anywhere; } .pass { color: #2c8a63; } .fail { color: #b3392f; font-weight: 650; }
ul.read { margin: 0; padding-left: 20px; } .read li { margin: 5px 0; }
.next { background: #fff; border-radius: 8px; padding: 10px 20px; margin: 0 0 18px; }
@media (max-width: 700px) {
  body { padding: 16px 10px 40px; } th, td { padding: 5px 6px; } .wide svg { min-width: 620px; }
  .words thead { display: none; } .words tr { display: block; border-bottom: 1px solid #e4e8ec; }
  .words td { display: inline-block; border: 0; width: auto; padding: 5px 6px 2px; }
  .words td.value { display: block; padding: 0 6px 7px; }
}
@media print { :root { background: #fff; } .card, .tile { break-inside: avoid; } }
"""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything the page shows.

    title: such as "sp500 1d". pedigree: what the numbers come from (span, rows, hashes, parameters), in the
    order shown. evidence: as `evaluation.evidence` documents it.
    times: [n] bar closes, datetime64 or a DatetimeIndex in UTC. returns, benchmark: [n] after costs, of the
    strategy and of buy and hold on the same bars.
    y, p: [m] class numbers and final out-of-sample probabilities, [m] or [m, K]. signal: [m] P(up) as the
    strategy acts on it; p by default. thresholds: those of the signal, drawn into its histogram.
    """

    title: str
    verdict: Verdict
    pedigree: Mapping[str, object]
    evidence: Mapping[str, Any]
    times: npt.ArrayLike
    returns: npt.ArrayLike
    benchmark: npt.ArrayLike
    y: npt.ArrayLike
    p: npt.ArrayLike
    signal: npt.ArrayLike | None = None
    thresholds: Sequence[float] = ()


def render(report: ReportInput) -> str:
    """The page as text; write it with `core.files.write_text`."""
    _check(report)
    title = escape(report.title)
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: evaluation</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            f'<h1>{title}</h1><p class="muted">Out-of-sample evaluation, after costs. '
            f"Every figure is from bars the models were not trained on.</p>",
            _banner(report.verdict),
            f'<p class="next"><strong>What to do next.</strong> {escape(next_step(report.verdict))}</p>',
            _tiles(report.evidence, report.verdict),
            "<h2>Strategy against buy and hold</h2>",
            *_accounts(report),
            "<h2>Why: every rule of the gate</h2>",
            _card(_checks(report.verdict.checks)),
            *_luck(report.evidence),
            *_regimes(report.evidence["regimes"]),
            "<h2>Models on the same rows</h2>",
            _card(_models(report.evidence)),
            _pair(_cards(report)),
            *_importance(report.evidence["importance"]),
            *_paths(report.evidence["paths"]),
            "<h2>Leak checks</h2>",
            _card(_leaks(report.evidence["leaks"])),
            "<h2>Where the numbers come from</h2>",
            _card(_pedigree(report.pedigree)),
            "</body></html>",
            "",
        ]
    )


def _banner(verdict: Verdict) -> str:
    if verdict.tradable:
        tone, headline = "yes", "Tradable: serves, and its signals may be traded"
    elif verdict.integrity:
        tone = "partly"
        headline = "Not tradable: it may serve, and its signal is always hold"
        if not verdict.servable:
            headline = "Not tradable: the artefact is sound, but its predictions are not good enough"
    else:
        tone, headline = "no", "Refused: the artefact failed its integrity checks"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    listed = f"<ul>{reasons}</ul>" if reasons else "<p>Every rule passed.</p>"
    return f'<div class="banner {tone}"><strong>{headline}</strong>{listed}</div>'


def _tiles(evidence: Mapping[str, Any], verdict: Verdict) -> str:
    record, benchmark, skill = evidence["backtest"], evidence["benchmark"], evidence["skill"]
    deflated = next((check.value for check in verdict.checks if check.rule == "deflated_sharpe"), None)
    tiles = [
        (
            _number(record["sharpe"], ".2f"),
            f"Sharpe a year; buy and hold {_number(benchmark['sharpe'], '.2f')}",
        ),
        (
            _number(deflated, ".3f"),
            f"deflated Sharpe over {evidence.get('tried', len(evidence['trials'])):,} trials",
        ),
        (_number(record.get("cagr"), ".1%"), f"a year; buy and hold {_number(benchmark.get('cagr'), '.1%')}"),
        (
            _number(record["max_drawdown"], ".1%"),
            f"largest drawdown; buy and hold {_number(benchmark['max_drawdown'], '.1%')}",
        ),
        (f"{record['trades']:,}", f"trades; in the market {_number(record.get('exposure'), '.0%')} of bars"),
        (_number(skill["difference"], "+.4f"), f"log-loss saved against {escape(evidence['baseline'])}"),
    ]
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{text}</span></div>' for value, text in tiles)
    return f'<div class="tiles">{shown}</div>'


def _accounts(report: ReportInput) -> list[str]:
    times = _times(report.times)
    returns = np.asarray(report.returns, dtype=np.float64)
    benchmark = np.asarray(report.benchmark, dtype=np.float64)
    return [
        _card(plots.equity(times, returns, benchmark), "Wealth, starting from 1 (logarithmic)", "wide"),
        _card(plots.drawdown(times, returns, benchmark), "Drawdown", "wide"),
    ]


def _luck(evidence: Mapping[str, Any]) -> list[str]:
    found, cards = evidence["intervals"], [_card(_sentences(readings.luck(evidence)), "Is it luck?")]
    if found is not None:
        read = readings.intervals(found)
        plot = plots.sharpe_intervals(found["figures"]) if found["figures"] else ""
        cards.append(_card(plot + _sentences(read), "How sure is it?"))
    return ["<h2>Luck</h2>", _pair(cards)]


def _regimes(section: Mapping[str, Any] | None) -> list[str]:
    if section is None or not section["kinds"]:
        return []
    drawn = [_card(plots.regimes(kind, of), f"By {kind}") for kind, of in section["kinds"].items() if of]
    heads = ["regime", "", "rows", "log-loss saved", "hits", "bars", "Sharpe"]
    rows = [
        [
            ("", kind),
            ("", part["label"]),
            ("number", f"{part['rows']:,}"),
            ("number", _number(part["log_loss_gain"], "+.4f")),
            ("number", _number(part["hit_rate"], ".1%")),
            ("number", f"{part['bars']:,}"),
            ("number", _number(part["sharpe"], ".2f")),
        ]
        for kind, of in section["kinds"].items()
        for part in of
    ]
    note = _sentences(readings.regimes(section))
    return [
        "<h2>In which markets did it work?</h2>",
        _pair(drawn),
        _card(note + _table(heads, rows, numbers_from=2)),
    ]


def _cards(report: ReportInput) -> list[str]:
    y, p = classification.last_against_rest(report.y, report.p)
    signal = p if report.signal is None else np.asarray(report.signal, dtype=np.float64)
    evidence = report.evidence
    losses = {name: figures["log_loss_by_fold"] for name, figures in evidence["models"].items()}
    name = evidence["classes"][-1]["name"]
    return [
        _card(plots.calibration(y, p, name), "Does 60 % mean 60 %?"),
        _card(plots.fold_losses(losses, evidence["baseline"]), "Is the skill steady? Below zero is better"),
        _card(plots.histogram(signal, report.thresholds), "How often does it have an opinion?"),
    ]


def _importance(section: Mapping[str, Any] | None) -> list[str]:
    if section is None or not section["features"]:
        return []
    rows = [
        [
            ("", of["feature"]),
            ("number", _number(of["permutation"], "+.5f")),
            ("number", _number(of["permutation_std"], ".5f")),
            ("number", _number(of["shap"], ".4f")),
        ]
        for of in section["features"][:_FEATURES]
    ]
    heads = ["feature", "permuted", "±", "mean |SHAP|"]
    cards = [
        _card(plots.importance(section["features"], _FEATURES), "Rise of log-loss out of sample"),
        _card(_table(heads, rows, numbers_from=1), "Log-loss and log-odds"),
    ]
    return ["<h2>What does it look at?</h2>", f"<p>{escape(readings.importance(section))}</p>", _pair(cards)]


def _paths(section: Mapping[str, Any] | None) -> list[str]:
    if not section:
        return []
    cards = [
        _card(plots.paths(section, "sharpe", "Sharpe a year"), "Sharpe over the histories"),
        _card(plots.paths(section, "log_loss", "log-loss"), "Log-loss over the histories"),
    ]
    note = (
        '<p class="note">Combinatorial purged validation trains on both sides of what it tests: the spread '
        "says how much hangs on which history happened, not what could have been earned.</p>"
    )
    read = _card(_sentences(readings.paths(section)) + note)
    return ["<h2>Had history been another</h2>", _pair(cards), read]


def _leaks(findings: Sequence[Mapping[str, Any]] | None) -> str:
    rows = [
        [
            ("pass" if finding["passed"] else "fail", "passed" if finding["passed"] else "FAILED"),
            ("", finding["check"]),
            ("value", finding["detail"]),
        ]
        for finding in findings or ()
    ]
    return f"<p>{escape(readings.leaks(findings))}</p>" + (
        _table(["", "check", "finding"], rows) if rows else ""
    )


def _checks(checks: Iterable[Check]) -> str:
    rows = [
        [
            ("pass" if check.passed else "fail", "passed" if check.passed else "FAILED"),
            ("", check.kind),
            ("", check.rule),
            ("value", check.reason),
        ]
        for check in checks
    ]
    return _table(["", "kind", "rule", "reason"], rows)


def _models(evidence: Mapping[str, Any]) -> str:
    heads = ["model", "log-loss", "Brier", "AUC", "calibration error", "hits", "Sharpe", "drawdown", "trades"]
    primary, baseline = evidence["primary"], evidence["baseline"]
    ranked = sorted(evidence["models"].items(), key=lambda item: (item[0] != primary, item[1]["log_loss"]))
    rows = []
    for name, figures in ranked:
        account = evidence["backtests"].get(name, {})
        cells = [
            _number(figures["log_loss"], ".4f"),
            _number(figures["brier"], ".4f"),
            _number(figures["auc"], ".3f"),
            _number(figures["ece"], ".3f"),
            _number(figures["hit_rate"], ".1%"),
            _number(account.get("sharpe"), ".2f"),
            _number(account.get("max_drawdown"), ".1%"),
            _number(account.get("trades"), ",.0f"),
        ]
        rows.append([("", name), *(("number", cell) for cell in cells)])
    marked = [index for index, (name, _) in enumerate(ranked) if name == primary]
    shares = ", ".join(f"{of['share']:.1%} {escape(of['name'])}" for of in evidence["classes"])
    note = (
        f'<p class="note">{evidence["rows"]:,} rows in {evidence["folds"]} test blocks: {shares}. '
        f"{escape(primary)} is the model that would serve, {escape(baseline)} the one it must beat. An even "
        f"guess has log-loss {log(len(evidence['classes'])):.4f} and AUC .5. Sharpe and drawdown are after "
        f"costs.</p>"
    )
    return _table(heads, rows, numbers_from=1, marked=marked) + note


def _pedigree(pedigree: Mapping[str, object]) -> str:
    return _table([], [[("key", name), ("value", str(value))] for name, value in pedigree.items()])


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[tuple[str, str]]],
    *,
    numbers_from: int | None = None,
    marked: Sequence[int] = (),
) -> str:
    """Rows of (class, text) cells; text is escaped here and nowhere before."""
    first = len(heads) if numbers_from is None else numbers_from
    head = "".join(
        f'<th class="{"number" if at >= first else ""}">{escape(text)}</th>' for at, text in enumerate(heads)
    )
    body = "".join(
        f'<tr class="{"primary" if at in marked else ""}">'
        + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in row)
        + "</tr>"
        for at, row in enumerate(rows)
    )
    words = any(kind == "value" for row in rows for kind, _ in row)
    kind = ' class="words"' if words else ""
    return f"<table{kind}>{f'<thead><tr>{head}</tr></thead>' if heads else ''}<tbody>{body}</tbody></table>"


def _sentences(read: Iterable[str]) -> str:
    return '<ul class="read">' + "".join(f"<li>{escape(one)}</li>" for one in read) + "</ul>"


def _pair(cards: Iterable[str]) -> str:
    return f'<div class="pair">{"".join(cards)}</div>'


def _card(content: str, heading: str = "", kind: str = "") -> str:
    title = f"<h3>{escape(heading)}</h3>" if heading else ""
    return f'<div class="card {kind}">{title}{content}</div>'


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _times(times: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
    """Naive UTC for the time axis; a zone-aware DatetimeIndex converts to that by `to_numpy`."""
    values = getattr(times, "values", times)
    return np.asarray(values).astype("datetime64[ns]")


def _check(report: ReportInput) -> None:
    lengths = [len(np.asarray(_times(report.times))), len(np.asarray(report.returns))]
    lengths.append(len(np.asarray(report.benchmark)))
    if len(set(lengths)) > 1:
        raise DataError(f"times, returns and benchmark have {lengths} rows: cut them to the same bars")
    if len(np.asarray(report.y)) != len(np.asarray(report.p)):
        raise DataError("y and p differ in length: give the outcomes of the predicted rows")

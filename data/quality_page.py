"""The quality report as one HTML page that opens offline: no script, no font, no address."""

from html import escape

import numpy as np
import pandas as pd

from data.quality import QualityReport, RuleResult
from data.rules import RULES

_SHOWN = 500
_POINTS = 600
_WIDTH, _HEIGHT = 960, 140

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#667085;--line:#e4e7ec;--page:#f7f8fa;--card:#fff;
--good:#117a4b;--warn:#9a6400;--bad:#b42318;--accent:#3b5bdb}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2b3240;--page:#12161d;--card:#1a2029;
--good:#4cc38a;--warn:#e2a93b;--bad:#ff8a7a;--accent:#8ea6ff}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:17px;margin:36px 0 10px}p{margin:0;color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow-x:auto}
.verdict{margin:20px 0;padding:14px 18px;border-left:5px solid;font-weight:600}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px}
.facts div{padding:12px 16px}.facts b{display:block;font-size:18px;white-space:nowrap;
font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:13px}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:9px 14px;vertical-align:top;
border-bottom:1px solid var(--line)}tr:last-child td{border-bottom:0}
th{font-size:12px;letter-spacing:.04em;text-transform:uppercase;color:var(--soft)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td small{color:var(--soft);display:block}
svg{display:block;width:100%;height:auto;padding:10px}
"""


def render(
    report: QualityReport, *, symbol: str, max_quarantined: int, description: str = "", data_hash: str = ""
) -> str:
    """A whole HTML document: verdict, span, price line, rules, quarantined rows (the first 500).

    Equal reports give equal text. `max_quarantined` decides the verdict as `data.quality.enforce` does.
    """
    tone, verdict = _verdict(report, max_quarantined)
    title = f"{escape(symbol)} {report.timeframe}: data quality"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p>{escape(description)}</p>"
        f'<div class="card verdict {tone}">{escape(verdict)}</div>'
        f"{_facts(report, data_hash)}{_chart(report)}"
        f"<h2>Rules</h2>{_rules(report.rules)}"
        f"<h2>Quarantine</h2>{_quarantine(report.quarantine)}"
        "</main></body></html>\n"
    )


def _verdict(report: QualityReport, max_quarantined: int) -> tuple[str, str]:
    held = len(report.quarantine)
    if held > max_quarantined:
        return "bad", f"Refused: {_count(held, 'row')} in quarantine, at most {max_quarantined} allowed"
    failed = [r for r in report.rules if r.id == "row_count" and not r.passed]
    if failed:
        return "bad", f"Refused: {failed[0].detail}"
    if held or report.warnings:
        warnings = _count(len(report.warnings), "warning")
        return "warn", f"Accepted with {_count(held, 'row')} in quarantine and {warnings}"
    return "good", f"Accepted: all {len(report.rules)} rules hold for every bar"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _facts(report: QualityReport, data_hash: str) -> str:
    figures = report.metrics()
    facts = {
        "bars accepted": f"{figures['clean']:,}",
        "in quarantine": f"{figures['quarantined']:,}",
        "dropped by repair": f"{figures['repaired']:,}",
        "first bar": _day(figures["first"]),
        "last bar": _day(figures["last"]),
        "calendar": report.calendar,
    }
    if data_hash:
        facts["data hash"] = data_hash[:12]
    cells = (f'<div class="card"><b>{escape(v)}</b><span>{k}</span></div>' for k, v in facts.items())
    return f'<div class="facts">{"".join(cells)}</div>'


def _day(stamp: str | None) -> str:
    return "none" if stamp is None else stamp.replace("T", " ").removesuffix(":00Z")


def _chart(report: QualityReport) -> str:
    """Closes on a log scale over time, with a red tick for every quarantined bar."""
    close = report.clean["close"].iloc[:: max(len(report.clean) // _POINTS, 1)]
    if len(close) < 2:
        return ""
    times = pd.DatetimeIndex(close.index).asi8
    first, span = times[0], max(times[-1] - times[0], 1)
    log = np.log(close.to_numpy())
    height = np.ptp(log) or 1.0
    points = " ".join(
        f"{(t - first) / span * _WIDTH:.1f},{(1 - (v - log.min()) / height) * (_HEIGHT - 20) + 10:.1f}"
        for t, v in zip(times, log, strict=True)
    )
    held = pd.DatetimeIndex(report.quarantine.index).dropna()[:_SHOWN].as_unit("ns").asi8
    inside = held[(held >= first) & (held <= first + span)]
    ticks = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="var(--bad)" opacity=".6"/>'
        for x in (inside - first) / span * _WIDTH
    )
    return (
        '<h2>Close, log scale</h2><div class="card">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="close prices over time">{ticks}'
        f'<polyline points="{points}" fill="none" stroke="var(--accent)" stroke-width="1.5"/></svg></div>'
    )


def _rules(rules: list[RuleResult]) -> str:
    rows = "".join(_rule(rule) for rule in rules)
    head = '<tr><th>Rule</th><th>Severity</th><th>Result</th><th class="n">Rows</th><th>Remedy</th></tr>'
    return f'<div class="card"><table>{head}{rows}</table></div>'


def _rule(rule: RuleResult) -> str:
    about = RULES[rule.id]
    tone = "good" if rule.passed else ("bad" if rule.severity == "critical" else "warn")
    result = "holds" if rule.passed else ("broken" if rule.severity == "critical" else "warning")
    detail = f"<small>{escape(rule.detail)}</small>" if rule.detail else ""
    remedy = "" if rule.passed else escape(about.remedy)
    return (
        f"<tr><td>{escape(about.title)}<small>{rule.id}</small>{detail}</td><td>{rule.severity}</td>"
        f'<td class="{tone}">{result}</td><td class="n">{rule.rows:,}</td><td>{remedy}</td></tr>'
    )


def _quarantine(rows: pd.DataFrame) -> str:
    if rows.empty:
        return '<div class="card" style="padding:14px 18px">No row is in quarantine.</div>'
    columns = ["row", "open", "high", "low", "close", "volume"]
    head = "<th>Time</th>" + "".join(f'<th class="n">{c}</th>' for c in columns) + "<th>Reason</th>"
    shown = rows.head(_SHOWN)
    body = "".join(
        f"<tr><td>{escape(str(time))}</td>"
        + "".join(f'<td class="n">{row[c]:.10g}</td>' for c in columns)
        + f"<td>{escape(row['reason'])}</td></tr>"
        for time, row in zip(shown.index, shown.to_dict("records"), strict=True)
    )
    note = f"<p>The first {_SHOWN} of {len(rows):,} rows.</p>" if len(rows) > _SHOWN else ""
    return f'{note}<div class="card"><table><tr>{head}</tr>{body}</table></div>'

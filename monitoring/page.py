"""The verdict in words, as the head of the HTML report."""

from html import escape

from core.errors import DataError
from monitoring.verdict import DriftVerdict

_COLOURS = {
    "CRITICAL": "#8b0000",
    "HIGH": "#c0392b",
    "MEDIUM": "#b9770e",
    "LOW": "#5d6d7e",
    "NONE": "#1e8449",
}


def banner(verdict: DriftVerdict) -> str:
    """A self-contained block of HTML: severity, action, what was compared, the reasons, the remark."""
    name = verdict.severity.name
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    title = " ".join(part for part in (verdict.subject, verdict.version) if part)
    return (
        '<section style="font:16px/1.5 sans-serif;max-width:60em;margin:1.5em auto;padding:1em 1.5em;'
        f'color:#222;background:#fff;border-left:8px solid {_COLOURS[name]}">'
        f"<h1 style='margin:0;font-size:1.4em'>{escape(title)} drift: {name}</h1>"
        f"<p>Action: <b>{escape(verdict.action)}</b></p>"
        f"<p>{verdict.rows} bars, {_day(verdict.window_start)} to {_day(verdict.window_end)}, against "
        f"{verdict.reference_rows} training rows, {_day(verdict.reference_start)} to "
        f"{_day(verdict.reference_end)}. Distance: Wasserstein over the reference's standard deviation.</p>"
        f"<ul>{reasons}</ul><p style='color:#555'>{escape(verdict.remark)}</p></section>"
    )


def _day(moment: str) -> str:
    return moment[:10]


def with_banner(page: str, verdict: DriftVerdict) -> str:
    """`page` with the verdict at the top of its body."""
    head, found, rest = page.partition("<body>")
    if not found:
        raise DataError(
            "the Evidently page has no <body>: the installed evidently differs from requirements.lock"
        )
    return f"{head}{found}{banner(verdict)}{rest}"

"""What each section of the evidence says, in one sentence; `evaluation.evidence` documents the sections."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Section = Mapping[str, Any]


def luck(evidence: Section) -> list[str]:
    """Track record, overfitting and superior ability."""
    sections = (("track_record", _track_record), ("overfitting", _overfitting))
    read = [reading(evidence[name]) for name, reading in sections if evidence[name] is not None]
    return [*read, *_superior(evidence)]


def intervals(section: Section) -> list[str]:
    """What the bootstrap intervals leave open."""
    if section["reason"]:
        return [f"No intervals: {section['reason']}."]
    sharpe, excess, gain, hits, depth = (
        section["figures"][name]
        for name in ("sharpe", "sharpe_excess", "log_loss_gain", "hit_rate", "max_drawdown")
    )
    return [
        f"The Sharpe ratio is {sharpe['estimate']:.2f}; resampled histories put it between "
        f"{sharpe['low']:.2f} and {sharpe['high']:.2f}, {_zero(sharpe)}.",
        f"Less that of buy and hold it is {excess['estimate']:+.2f}, between {excess['low']:+.2f} and "
        f"{excess['high']:+.2f}: {_zero(excess)}.",
        f"The log-loss saved against the baseline is {gain['estimate']:+.4f}, between {gain['low']:+.4f} and "
        f"{gain['high']:+.4f}: {_zero(gain)}.",
        f"Hits are {hits['estimate']:.1%} of rows, between {hits['low']:.1%} and {hits['high']:.1%}.",
        f"The largest drawdown was {abs(depth['estimate']):.1%}; an equally likely history could have shown "
        f"{abs(depth['low']):.1%}.",
    ]


def regimes(section: Section) -> list[str]:
    """Where the skill sits: the warnings, or in how many regimes of each kind it shows."""
    if section["warnings"]:
        return [f"{warning}." for warning in section["warnings"]]
    parts = [
        f"{sum(part['log_loss_gain'] > 0 for part in of)} of {len(of)} by {kind}"
        for kind, of in section["kinds"].items()
    ]
    return (
        [f"Regimes in which the log-loss is better than the baseline's: {', '.join(parts)}."] if parts else []
    )


def importance(section: Section) -> str:
    """How much rests on the first feature."""
    if section["leader"] is None:
        return f"No feature's permutation makes the log-loss any worse ({section['of']})."
    return (
        f"{section['leader']} carries {section['share']:.0%} of all permutation importance "
        f"({section['of']}); a feature that others can stand in for looks dispensable here."
    )


def paths(section: Section) -> list[str]:
    """How many of the alternative histories lost, per family."""
    return [
        f"{family}: {round(of['losing'] * of['paths'])} of {of['paths']} histories earn nothing; Sharpe "
        f"{of['sharpe']['low']:.2f} to {of['sharpe']['high']:.2f}, median {of['sharpe']['median']:.2f}."
        for family, of in section.items()
    ]


def leaks(findings: Sequence[Section] | None) -> str:
    """Whether any leak check found something."""
    if not findings:
        return "No leak check was run."
    failed = [finding["check"] for finding in findings if not finding["passed"]]
    if failed:
        return f"{len(failed)} of {len(findings)} leak checks failed: {', '.join(failed)}."
    return f"Leak checks run: {len(findings)}; none found anything."


def _track_record(section: Section) -> str:
    if section["psr"] is None:
        return f"No track record: {section['reason']}."
    sure = "over 99.9%" if section["psr"] > 0.999 else f"{section['psr']:.1%}"
    known = f"The true Sharpe ratio is above 0 with probability {sure}"
    if section["needed"] is None:
        return f"{known}: {section['reason']}."
    rows, needed = section["rows"], section["needed"]
    enough = "the record is long enough" if rows >= needed else f"{needed - rows:,} more are needed"
    return f"{known}; 95 % takes {needed:,} returns and there are {rows:,}: {enough}."


def _overfitting(section: Section) -> str:
    if section["pbo"] is None:
        return f"No probability of backtest overfitting: {section['reason']}."
    return (
        f"In {section['pbo']:.0%} of {section['splits']:,} splits of the record, the best of "
        f"{section['candidates']} candidates in one half was no better than the middle one in the other; "
        f"without any skill this share varies by {section['noise']:.1%} (one deviation): no rule judges it."
    )


def _superior(evidence: Section) -> Iterator[str]:
    section = evidence["spa"]
    if section is None:
        return
    if section["reason"]:
        yield f"No test against buy and hold: {section['reason']}."
        return
    for who, p in (
        (evidence["primary"], section["primary"]),
        (f"the best of {len(section['candidates'])} candidates, picked afterwards,", section["best"]),
    ):
        yield (
            f"If {who} earned no more than buy and hold, its mean return would look this good in "
            f"{p['consistent']:.1%} of resamples (Hansen's SPA; {p['lower']:.1%} to {p['upper']:.1%})."
        )
    found = ", ".join(section["superior"])
    yield f"StepM finds {found or 'no candidate'} better than buy and hold at 5 %."


def _zero(interval: Section) -> str:
    if interval["low"] > 0:
        return "more than 0 throughout"
    return "less than 0 throughout" if interval["high"] < 0 else "0 among them"

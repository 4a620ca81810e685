"""One drift watch: judge the newest windows of the log, decide on each in turn, report the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.decision import Decision, DecisionStore
from monitoring.drift import detect
from monitoring.frames import recent_windows
from monitoring.outcomes import PerformanceVerdict
from monitoring.verdict import DriftRules, DriftVerdict, assess

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Watch:
    """The newest verdict and its decision; `retrain` if any window of this watch asked for one."""

    verdict: DriftVerdict
    decision: Decision
    retrain: bool


def watch(
    log: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    columns: Sequence[str],
    store: DecisionStore,
    subject: str,
    version: str,
    report: Path | None,
    rules: DriftRules | None = None,
    performance: PerformanceVerdict | None = None,
) -> Watch:
    """Judge as many windows as a confirmation needs, so that a log just filled by a replay decides at once.

    `log` as `frames.log_frame` returns it. The windows end `fresh_share` of their length apart; those decided
    in an earlier watch count no second time. `performance` raises the severity of the newest window only.
    """
    rules, wanted = rules or DriftRules(), store.rules
    windows = recent_windows(log, rules.window_rows, count=wanted.confirmations, advance=wanted.fresh_share)
    decisions = []
    for window in windows[:-1]:
        earlier = assess(window, reference, columns=columns, subject=subject, version=version, rules=rules)
        decisions.append(store.apply(earlier.observation()))
    verdict = detect(
        windows[-1],
        reference,
        columns=columns,
        report=report,
        subject=subject,
        version=version,
        rules=rules,
        performance=performance,
    )
    live = (performance.signals, performance.degradation) if performance else ((), 0.0)
    decisions.append(store.apply(verdict.observation(*live)))
    return Watch(verdict, decisions[-1], any(one.retrain for one in decisions))

"""The Evidently report of a drift verdict, and the only place that imports Evidently.

Evidently is given one explicit method and one explicit threshold per column; its own defaults change the
method with the sample size. Its numbers must equal the verdict's, or no report is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from core.files import write_text
from monitoring.outcomes import PerformanceVerdict
from monitoring.page import with_banner
from monitoring.verdict import Comparison, DriftRules, DriftVerdict, compare, judge

if TYPE_CHECKING:
    import pandas as pd

_TOLERANCE = 1e-9


def detect(
    current: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    columns: Sequence[str],
    report: Path | None,
    prediction: str | None = "probability",
    subject: str = "",
    version: str = "",
    rules: DriftRules | None = None,
    performance: PerformanceVerdict | None = None,
) -> DriftVerdict:
    """Judge as `monitoring.verdict.assess` does and write Evidently's page (HTML, offline) to `report`.

    Some 15 s, half of them Evidently's import; with `report=None` it is `assess`. The page, 4–10 MB, replaces
    an older one in one step. `performance` adds live outcomes to both. DataError when the samples cannot be
    compared.
    """
    rules = rules or DriftRules()
    samples = compare(current, reference, columns, prediction, rules)
    verdict = judge(samples, subject, version, rules)
    if performance is not None:
        verdict = verdict.with_performance(performance)
    if report is not None:
        snapshot = _run(samples, verdict)
        _agree(evidently_numbers(snapshot.dict()), verdict)
        write_text(report, with_banner(snapshot.get_html_str(as_iframe=False), verdict))
    return verdict


def _run(samples: Comparison, verdict: DriftVerdict) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=samples.judged)
    now, past = (
        Dataset.from_pandas(frame[samples.judged].reset_index(drop=True), data_definition=definition)
        for frame in (samples.current, samples.reference)
    )
    metrics: list[Any] = [
        DataDriftPreset(
            columns=list(samples.columns),
            drift_share=verdict.share_limit,
            num_method=verdict.method,
            per_column_threshold={c.name: c.threshold for c in verdict.columns},
        )
    ]
    if (seen := verdict.prediction) is not None:
        metrics.append(ValueDrift(column=seen.name, method=verdict.method, threshold=seen.threshold))
    return Report(metrics).run(now, past)


def evidently_numbers(content: dict[str, Any]) -> dict[str, float]:
    """Distance per column, and the share of drifted columns under the empty name, from a report's dict."""
    numbers: dict[str, float] = {}
    for metric in content["metrics"]:
        config = metric["config"]
        if config["type"].endswith(":ValueDrift"):
            numbers[config["column"]] = float(metric["value"])
        elif config["type"].endswith(":DriftedColumnsCount"):
            numbers[""] = float(metric["value"]["share"])
    return numbers


def _agree(numbers: dict[str, float], verdict: DriftVerdict) -> None:
    seen = [verdict.prediction] if verdict.prediction else []
    ours = {"": verdict.share, **{c.name: c.distance for c in (*verdict.columns, *seen)}}
    for name, value in ours.items():
        theirs = numbers.get(name)
        if theirs is None or abs(theirs - value) > _TOLERANCE * max(1.0, abs(value)):
            raise DataError(
                f"Evidently says {theirs} for {name or 'the share of drifted columns'}, the verdict {value}: "
                "the installed evidently differs from requirements.lock"
            )

"""The drift check: a version's logged predictions against its training reference."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.bundle import CHAMPION, REFERENCE, load_manifest
from core.clock import SystemClock
from core.errors import ConfigurationError, DataError, UsageError
from core.files import write_json
from core.settings import Settings
from monitoring.decision import DecisionRules, DecisionStore
from monitoring.frames import log_frame
from monitoring.prediction_table import read
from monitoring.verdict import DriftRules
from monitoring.watch import Watch, watch
from pipelines.live_performance import Live, live_performance
from pipelines.params import PARAMS_FILE, Drift, load
from pipelines.promotion import find, open_registry, resolve_model


@dataclass(frozen=True)
class DriftOutcome:
    """A drift check: the verdict as written to `json`, the page, and what follows.

    `as_of` is the day of the newest judged bar: what a retrain would train up to.
    """

    model: str
    version: str
    verdict: dict[str, Any]
    html: Path
    json: Path
    action: str
    retrain: bool
    as_of: str


def check_drift(
    settings: Settings,
    model: str | None = None,
    *,
    start: str | None = None,
    until: str | None = None,
    last: int | None = None,
) -> DriftOutcome:
    """Judge what was logged between two days (inclusive, UTC), or its last bars, and decide.

    Judged is the champion; a version that was only replayed, when the champion predicted nothing there.
    What became of its predictions is judged beside its features, and raises the severity.
    """
    rules = load(settings.home / PARAMS_FILE).drift
    _check_kept(settings, rules)
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    table = _logged(settings, model, start, until)
    holder = _judged_version(table, registry.get_alias(model, CHAMPION))
    version = find(registry, model, holder)
    manifest = load_manifest(version.directory)
    own = (pc.field("model_version") == holder) & (pc.field("symbol") == manifest.symbol)
    log = log_frame(table.filter(own))
    reference = pd.read_parquet(version.directory / REFERENCE).set_index("bar_time").astype("float64")
    live = live_performance(table, log, manifest, rules, last or rules.window_rows)
    folder = settings.var_dir / "drift"
    html, json = folder / f"{model}.html", folder / f"{model}.json"
    seen = watch(
        log.tail(last) if last else log,
        reference,
        columns=list(manifest.definitions),
        store=DecisionStore(folder / "decisions.json", SystemClock(), _decisions(rules)),
        subject=model,
        version=holder,
        report=html,
        rules=_rules(rules, last),
        performance=live.verdict,
    )
    document = _document(seen, live)
    write_json(json, document)
    as_of = log.index[-1].date().isoformat()
    return DriftOutcome(model, holder, document, html, json, seen.verdict.action, seen.retrain, as_of)


def _check_kept(settings: Settings, rules: Drift) -> None:
    """ConfigurationError when retention may remove what the windows of one check span."""
    needed = math.ceil(rules.window_rows * (1 + rules.fresh_share * (rules.confirmations - 1)))
    if needed > settings.log_min_rows:
        raise ConfigurationError(
            f"drift needs {needed} logged bars (window_rows, confirmations, fresh_share), retention keeps "
            f"{settings.log_min_rows}: raise BELLWETHER_LOG_MIN_ROWS, or judge shorter windows"
        )


def _document(seen: Watch, live: Live) -> dict[str, Any]:
    return {
        **seen.verdict.to_dict(),
        "performance": live.to_dict(),
        "decision": seen.decision.to_dict(),
        "retrain": seen.retrain,
    }


def _rules(rules: Drift, last: int | None) -> DriftRules:
    return DriftRules(
        window_rows=last or rules.window_rows,
        reference_rows=rules.reference_rows,
        quantile=rules.quantile,
        share_limit=rules.share_limit,
        min_rows=rules.min_rows,
        prediction_margin=rules.prediction_margin,
    )


def _decisions(rules: Drift) -> DecisionRules:
    return DecisionRules(rules.confirmations, rules.cooldown_hours, rules.fresh_share)


def _logged(settings: Settings, model: str, start: str | None, until: str | None) -> pa.Table:
    table = read(
        settings.prediction_log_dir / model,
        day(start, time.min) if start else None,
        day(until, time.max) if until else None,
    )
    if table.num_rows == 0:
        raise DataError(
            f"the log of {model} holds no prediction in that window: send bars to the service, or feed it "
            "stored ones with `bellwether replay`"
        )
    return table


def _judged_version(table: pa.Table, champion: str | None) -> str:
    """The champion if it predicted in the window, else whichever version did last."""
    versions = [str(version) for version in table["model_version"].to_pylist()]
    return champion if champion is not None and champion in versions else versions[-1]


def day(text: str, at: time) -> datetime:
    """A day given as YYYY-MM-DD, at a time of day in UTC."""
    try:
        return datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), at, UTC)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day: write it as YYYY-MM-DD, such as 2007-07-02") from error

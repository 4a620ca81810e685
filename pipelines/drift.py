"""The drift check: the champion's logged predictions against its training reference."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pandas as pd

from core.bundle import REFERENCE, load_manifest
from core.clock import SystemClock
from core.errors import DataError, RegistryError, UsageError
from core.files import write_json
from core.settings import Settings
from monitoring.decision import DecisionRules, DecisionStore
from monitoring.frames import log_frame
from monitoring.prediction_table import read
from monitoring.verdict import DriftRules
from monitoring.watch import Watch, watch
from pipelines.params import PARAMS_FILE, Drift, load
from pipelines.promotion import CHAMPION, find, open_registry, resolve_model


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
    """Judge the champion's log between two days (inclusive, UTC) or its last bars, and decide."""
    rules = load(settings.home / PARAMS_FILE).drift
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    holder = registry.get_alias(model, CHAMPION)
    if holder is None:
        raise RegistryError(f"{model} has no champion: run `bellwether run`, or promote a version")
    version = find(registry, model, holder)
    manifest = load_manifest(version.directory)
    log = _log(settings, model, holder, manifest.symbol, start, until)
    reference = pd.read_parquet(version.directory / REFERENCE).set_index("bar_time")
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
    )
    write_json(json, _document(seen))
    as_of = log.index[-1].date().isoformat()
    return DriftOutcome(model, holder, _document(seen), html, json, seen.verdict.action, seen.retrain, as_of)


def _document(seen: Watch) -> dict[str, Any]:
    return {**seen.verdict.to_dict(), "decision": seen.decision.to_dict(), "retrain": seen.retrain}


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


def _log(
    settings: Settings, model: str, version: str, symbol: str, start: str | None, until: str | None
) -> pd.DataFrame:
    table = read(
        settings.prediction_log_dir / model,
        day(start, time.min) if start else None,
        day(until, time.max) if until else None,
        symbol=symbol,
        model_version=version,
    )
    if table.num_rows == 0:
        raise DataError(
            f"the log of {model} version {version} holds no prediction of {symbol} in that window: send "
            "bars to the service, or `bellwether replay`"
        )
    return log_frame(table)


def day(text: str, at: time) -> datetime:
    """A day given as YYYY-MM-DD, at a time of day in UTC."""
    try:
        return datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), at, UTC)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day: write it as YYYY-MM-DD, such as 2007-07-02") from error

"""Refresh and retrain: every DVC stage as a task of its own, then push, registration and the summary."""

from collections.abc import Mapping
from datetime import date
from time import perf_counter
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from core.errors import BellwetherError, ConfigurationError
from core.settings import load_settings
from flows.retry import worth_another_try
from flows.show import publish, version_link
from pipelines import job
from pipelines.params import PARAMS_FILE, parse_overrides, read_tree
from pipelines.recall import overrides_of
from pipelines.summary import RunSummary
from pipelines.workspace import STAGES, StageResult, Workspace, open_workspace

_RETRIES, _DELAYS = 2, [10.0, 60.0]
# what DVC tells a person at a shell
_ADVICE = ("\t", "To track the changes", "To enable auto staging", "Use `dvc push`")


def changes(overrides: Mapping[str, Any] | None, as_of: str | None) -> dict[str, Any]:
    """Parameters of a run: text is read as YAML, as `--set` reads it; `as_of` (ISO day) sets data.until."""
    merged = dict(overrides or {})
    for name, value in merged.items():
        if isinstance(value, str):
            merged[name] = parse_overrides([f"{name}={value}"])[name]
    if as_of:
        try:
            merged["data.until"] = date.fromisoformat(as_of[:10]).isoformat()
        except ValueError as error:
            raise ConfigurationError(f"as_of {as_of!r} is not a day: give it as YYYY-MM-DD") from error
    return merged


def run_name() -> str:
    """The run's name in the UI: symbol and as-of day."""
    given = flow_run.parameters or {}
    overrides = given.get("overrides") or {}
    symbol = overrides.get("data.symbol") or _symbol_of_checkout()
    day = str(given.get("as_of") or overrides.get("data.until") or "newest bar")[:10]
    return f"{symbol} as of {day}, {given.get('reason') or 'scheduled'}"


def _symbol_of_checkout() -> str:
    try:
        return str(read_tree(load_settings().home / PARAMS_FILE)["data"]["symbol"])
    except (BellwetherError, KeyError, TypeError):
        return "unknown symbol"


@task(
    retries=_RETRIES,
    retry_delay_seconds=_DELAYS,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)
def run_stage(ws: Workspace, stage: str) -> StageResult:
    """Bring one DVC stage up to date."""
    log = get_run_logger()

    def relay(line: str) -> None:
        if line.strip() and not line.startswith(_ADVICE):
            log.info("%s", line.rstrip())

    result = ws.repro(stage, relay)
    log.info("%s: %s in %.1f s", stage, result.status, result.seconds)
    return result


@task(
    name="push",
    retries=_RETRIES,
    retry_delay_seconds=_DELAYS,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)
def push(ws: Workspace) -> None:
    """Send the outputs to the DVC remote, so that what is registered can be had again."""
    ws.push()


@task(
    name="register",
    retries=_RETRIES,
    retry_delay_seconds=_DELAYS,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)
def register(ws: Workspace, reason: str) -> job.Registered:
    """Register the bundle; an identical model is found, not registered again."""
    return job.register(ws, reason=reason)


@flow(name="retrain", flow_run_name=run_name)
def retrain(
    overrides: dict[str, Any] | None = None,
    as_of: str | None = None,
    reason: str = "scheduled",
    model: str | None = None,
) -> dict[str, Any]:
    """Refresh the data, train, judge and register, in a worktree of its own.

    `overrides` maps block.key → value; `as_of` is the last day used, ISO; `reason` is recorded with the
    version; `model` (registry name), when given, is retrained with the parameters of its champion, unless
    there are overrides, and must be the one that the parameters train.
    Returns the run's summary as plain values.
    """
    begin = perf_counter()
    settings = load_settings()
    if model and not overrides:
        overrides = overrides_of(settings, model)
    with open_workspace(settings, changes(overrides, as_of), isolated=True) as ws:
        check_model(ws, model)
        stages = [run_stage.with_options(name=stage)(ws, stage) for stage in STAGES]
        push(ws)
        registered = register(ws, reason)
        summary = job.summarise(ws, stages, registered, seconds=perf_counter() - begin)
    show(summary)
    return dict(summary.to_json())


def check_model(ws: Workspace, model: str | None) -> None:
    """ConfigurationError when the workspace's parameters train another symbol than `model`'s."""
    symbol = read_tree(ws.root / PARAMS_FILE)["data"]["symbol"]
    if model and model.rpartition("-")[0] != symbol:
        raise ConfigurationError(
            f"{model} was asked for, but data.symbol is {symbol}: give the overrides that {model} was "
            "trained with, such as data.symbol and data.path"
        )


def show(summary: RunSummary) -> None:
    """Publish a run's summary as artifacts with links to the registry."""
    facts = summary.to_json()
    model, version = facts["model"], facts["version"]
    links = {f"{model} version {version} in MLflow": version_link(load_settings(), model, version)}
    publish(f"retrain-{model}", f"{model} version {version}", facts, links)

"""Watch for drift: judge each model's logged predictions, show the verdict, ask for a retrain."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from core.errors import DataError
from core.settings import Settings, load_settings
from flows.find import champions
from flows.request import request_retrain
from flows.retry import worth_another_try
from flows.show import publish
from flows.sweep import sweep
from pipelines.drift import DriftOutcome, check_drift


@task(
    name="check drift",
    retries=1,
    retry_delay_seconds=30.0,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)
def check(settings: Settings, model: str, last: int | None) -> DriftOutcome:
    """Compare a model's logged window with its training reference."""
    return check_drift(settings, model, last=last)


@flow(name="watch")
def watch(model: str | None = None, last: int | None = None) -> dict[str, str]:
    """Judge one model, or every champion; returns model → what was done.

    `last` limits the window to the newest logged bars. Runs that a killed process left RUNNING are marked
    crashed first: they would hold the retrain deployment's only slot.
    """
    settings = load_settings()
    for lost in sweep():
        get_run_logger().warning("run %s had lost its process: marked crashed", lost)
    if model:
        return {model: judge(settings, model, last)}
    return {name: judge_if_possible(settings, name, last) for name in champions(settings)}


def judge(settings: Settings, model: str, last: int | None) -> str:
    """Check one model, publish the verdict, ask for the retrain that it calls for."""
    outcome = check(settings, model, last)
    day = outcome.as_of[:10]
    publish(f"drift-{model}", f"Drift of {model} to {day}", facts(outcome))
    if not outcome.retrain:
        return outcome.action
    return f"retrain asked for by {request_retrain(model, day, outcome.verdict)}"


def judge_if_possible(settings: Settings, model: str, last: int | None) -> str:
    """As `judge`, but a log that holds too little to judge is no failure: the schedule asks every hour."""
    try:
        return judge(settings, model, last)
    except DataError as error:
        get_run_logger().info("%s is not judged: %s", model, error)
        return f"not judged: {error}"


def facts(outcome: DriftOutcome) -> dict[str, Any]:
    """What the artifact shows: the verdict, the action, where the reports are."""
    return {
        "model": outcome.model,
        "as_of": outcome.as_of,
        "action": outcome.action,
        "retrain": outcome.retrain,
        **outcome.verdict,
        "html_report": str(outcome.html),
        "json_verdict": str(outcome.json),
    }

"""Promote a challenger to champion, if the gate agrees."""

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from core.errors import GateRefused
from core.settings import load_settings
from flows.show import publish, version_link
from pipelines import promotion


@flow(name="promote")
def promote(
    model: str | None = None, version: str | None = None, force: bool = False, reason: str = ""
) -> dict[str, Any]:
    """Make `version` (default: the challenger) of `model` (default: the only one) the champion.

    `force` overrules the gate, needs a `reason`, and is recorded with it. A refusal is shown as an artifact
    and fails the run.
    """
    settings = load_settings()
    by = f"Prefect run {flow_run.name}"
    try:
        done = promotion.promote(settings, model, version, force=force, reason=reason, by=by)
    except GateRefused as refusal:
        name = model or "model"
        publish(f"promote-{name}", f"{name}: promotion refused", {"reasons": str(refusal).split("; ")})
        raise
    facts = {**asdict(done), "reasons": list(done.reasons)}
    links = {
        f"{done.model} version {done.version} in MLflow": version_link(settings, done.model, done.version)
    }
    publish(f"promote-{done.model}", f"{done.model}: version {done.version} is champion", facts, links)
    return facts

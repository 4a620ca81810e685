"""Promote a challenger to champion, if the gate agrees."""

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from core.errors import GateRefused
from core.settings import load_settings
from flows.find import only_champion
from flows.show import publish, version_link


@flow(name="promote")
def promote(model: str | None = None, version: str | None = None, force: bool = False) -> dict[str, Any]:
    """Make `version` (default: the challenger) of `model` (default: the only one) the champion.

    `force` overrules the gate and is recorded. A refusal is shown as an artifact and fails the run.
    """
    from pipelines.promotion import promote as apply

    settings = load_settings()
    name = model or only_champion(settings)
    try:
        done = apply(
            settings, name, version, force=force, by=f"Prefect run {flow_run.name or 'without name'}"
        )
    except GateRefused as refusal:
        publish(f"promote-{name}", f"{name}: promotion refused", {"reasons": str(refusal).splitlines()})
        raise
    facts = {"model": done.model, "version": done.version, "alias": done.alias, "reasons": list(done.reasons)}
    links = {f"{name} version {done.version} in MLflow": version_link(settings, name, str(done.version))}
    publish(f"promote-{name}", f"{name}: version {done.version} is champion", facts, links)
    return facts

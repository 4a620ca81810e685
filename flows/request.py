"""Ask for a retrain after drift: by event and automation, else by deployment, else by a direct call."""

from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from flows.retrain import retrain

EVENT = "bellwether.drift.detected"
DEPLOYMENT = "retrain/bellwether"
Way = Literal["event", "deployment", "direct"]


def request_retrain(model: str, as_of: str, verdict: dict[str, Any]) -> Way:
    """Have `model` retrained as of `as_of` (ISO day); returns the way it was asked for.

    The event is always emitted: it is the record. Where an enabled automation listens, it starts the run.
    """
    announce(model, as_of, verdict)
    way = available_way()
    if way == "deployment":
        run_deployment(
            DEPLOYMENT,
            parameters={"as_of": as_of, "reason": "drift", "model": model},
            idempotency_key=f"drift:{model}:{as_of}",
            timeout=0,
            as_subflow=False,
        )
    elif way == "direct":
        retrain(as_of=as_of, reason="drift", model=model)
    return way


def announce(model: str, as_of: str, verdict: dict[str, Any]) -> None:
    """Emit the drift event; `payload.as_of` and `payload.model` become the retrain's parameters."""
    emit_event(
        EVENT,
        resource={"prefect.resource.id": f"model.{model}", "prefect.resource.name": model},
        payload={
            "model": model,
            "as_of": as_of,
            "share": verdict.get("share"),
            "severity": str(verdict.get("severity", "")),
        },
    )


def available_way() -> Way:
    """How a retrain can be started here and now."""
    if get_current_settings().api.url is None:
        return "direct"
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            return "direct"
        return "event" if _armed(client, deployment.id) else "deployment"


def _armed(client: SyncPrefectClient, deployment: Any) -> bool:
    related = client.read_resource_related_automations(f"prefect.deployment.{deployment}")
    return any(automation.enabled for automation in related)

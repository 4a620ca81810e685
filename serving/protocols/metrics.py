"""GET /metrics: the Prometheus text format."""

import time
from collections.abc import Callable, Iterator

from serving.http import Request, Response, Router
from serving.metrics import header, sample
from serving.model import Model
from serving.plane import Plane
from serving.slot import Slot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
INFO = "bellwether_model_info"
HELP = {
    INFO: "The model that serves; always 1.",
    "bellwether_model_tradable": "1 when signals may be traded on.",
    "bellwether_model_age_seconds": "Time since it was swapped in.",
    "bellwether_registry_up": "0 while the registry cannot be read.",
    "bellwether_bundle_refused": "1 while a newer bundle is refused.",
    "bellwether_serving_copy": "1 while the last good copy serves.",
}
_GAUGES: dict[str, Callable[[Slot, Model], float]] = {
    "bellwether_model_tradable": lambda _, model: model.tradable,
    "bellwether_model_age_seconds": lambda slot, _: time.time() - slot.status.loaded_at,
    "bellwether_registry_up": lambda slot, _: not slot.status.registry_error,
    "bellwether_bundle_refused": lambda slot, _: slot.status.refused is not None,
    "bellwether_serving_copy": lambda slot, _: slot.status.from_copy,
}


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        text = "\n".join([*plane.metrics.lines(), *_models(plane.slots)]) + "\n"
        return Response(200, text.encode(), CONTENT_TYPE)

    router.add("GET", "/metrics", get)


def _models(slots: list[Slot]) -> Iterator[str]:
    served = [(slot, slot.current.model) for slot in slots if slot.current]
    yield from header(INFO, "gauge", HELP[INFO])
    for _, model in served:
        pedigree = [
            ("model", model.name),
            ("version", model.version),
            ("data_hash", model.manifest.data_hash),
        ]
        yield sample(INFO, pedigree, 1)
    for name, value in _GAUGES.items():
        yield from header(name, "gauge", HELP[name])
        for slot, model in served:
            yield sample(name, [("model", model.name)], float(value(slot, model)))

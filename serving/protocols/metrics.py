"""GET /metrics: the Prometheus text format."""

import time
from collections.abc import Callable, Iterator

from serving.http import Request, Response, Router
from serving.metrics import header, sample
from serving.model import Model
from serving.plane import Plane
from serving.slot import Slot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        text = "\n".join([*plane.metrics.lines(), *_models(plane.slots)]) + "\n"
        return Response(200, text.encode(), CONTENT_TYPE)

    router.add("GET", "/metrics", get)


def _models(slots: list[Slot]) -> Iterator[str]:
    served = [(slot, slot.current.model) for slot in slots if slot.current]
    yield from header("bellwether_model_info", "gauge", "The model that serves; always 1.")
    for _, model in served:
        pedigree = [
            ("model", model.name),
            ("version", model.version),
            ("data_hash", model.manifest.data_hash),
        ]
        yield sample("bellwether_model_info", pedigree, 1)
    gauges: dict[str, tuple[str, Callable[[Slot, Model], float]]] = {
        "bellwether_model_tradable": ("1 when signals may be traded on.", lambda s, m: m.tradable),
        "bellwether_model_age_seconds": (
            "Time since it was swapped in.",
            lambda s, m: time.time() - s.status.loaded_at,
        ),
        "bellwether_registry_up": (
            "0 while the registry cannot be read.",
            lambda s, m: not s.status.registry_error,
        ),
        "bellwether_bundle_refused": (
            "1 while a newer bundle is refused.",
            lambda s, m: s.status.refused is not None,
        ),
        "bellwether_serving_copy": ("1 while the last good copy serves.", lambda s, m: s.status.from_copy),
    }
    for name, (text, value) in gauges.items():
        yield from header(name, "gauge", text)
        for slot, model in served:
            yield sample(name, [("model", model.name)], float(value(slot, model)))

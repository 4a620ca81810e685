"""GET /openapi.json: what the service answers, for tools."""

from typing import Any

import msgspec

from serving.http import Request, Response, Router, answer
from serving.protocols.bars import BarBody, BarsBody, SignalsBody

_REFERENCE = "#/components/schemas/{name}"
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_TENSOR_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array"}, "outputs": {"type": "array"}},
}


def routes(router: Router) -> None:
    """Mount the protocol."""

    async def get(request: Request) -> Response:
        return answer(document())

    router.add("GET", "/openapi.json", get)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    (one, many, signals), schemas = msgspec.json.schema_components(
        (BarBody, BarsBody, SignalsBody), ref_template=_REFERENCE
    )
    signal = {"$ref": _REFERENCE.format(name="Signal")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "bellwether", "version": "1"},
        "components": {"schemas": {**schemas, "Error": _ERROR}},
        "paths": {
            "/v1/bars": {
                "post": _operation(
                    "Bars in, signals out", {"anyOf": [signal, signals]}, {"anyOf": [one, many]}
                )
            },
            "/v1/signal/{symbol}": {
                "get": _operation("The signal as of the last bar", signal, path=["symbol"])
            },
            **_open_inference(),
            "/metrics": {"get": _operation("Prometheus metrics", media="text/plain")},
            "/openapi.json": {"get": _operation("This document")},
        },
    }


def _open_inference() -> dict[str, Any]:
    paths = {
        "/v2": {"get": _operation("Server metadata")},
        "/v2/health/live": {"get": _operation("Is the process up")},
        "/v2/health/ready": {"get": _operation("Can it answer; names what is degraded")},
        "/v2/repository/index": {"post": _operation("Models served")},
    }
    for base, names in (("", ["model"]), ("/versions/{version}", ["model", "version"])):
        model = f"/v2/models/{{model}}{base}"
        paths[model] = {"get": _operation("Model metadata", path=names)}
        paths[f"{model}/ready"] = {"get": _operation("Is the model loaded", path=names)}
        paths[f"{model}/infer"] = {"post": _operation("Score tensors", body=_TENSOR_REQUEST, path=names)}
    return paths


def _operation(
    summary: str,
    result: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
    *,
    path: list[str] | None = None,
    media: str = "application/json",
) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": _REFERENCE.format(name="Error")}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "done", "content": {media: {"schema": result or {}}}},
            "4XX": {"description": "refused; the message says the rule", "content": error},
            "503": {"description": "no model is loaded yet, or too many requests", "content": error},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if path:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in path
        ]
    return operation

"""GET /openapi.json: what the service answers, for tools."""

import functools
from typing import Any

from serving.http import Request, Response, Router, answer
from serving.protocols import schemas
from serving.protocols.schemas import STREAM_MESSAGES, array, reference

Json = dict[str, Any]
_TEXT = {"type": "string"}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_HEADER_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "bytes of JSON before the binary tensors; absent when there are none",
    "schema": {"type": "integer", "minimum": 1},
}
_SUBSCRIBE = {
    "name": "subscribe",
    "in": "query",
    "description": "symbols, comma between, or *: the connection only reads",
    "schema": _TEXT,
}
_TIMEFRAME = {
    "name": "timeframe",
    "in": "query",
    "description": "such as 1d: needed where models of several timeframes serve the symbol",
    "schema": _TEXT,
}
_STREAM_TEXT = (
    "Send what POST /v1/bars takes: each message is answered in order, by what that answers or by an error "
    "with its status. Send a StreamControl to get a SignalEvent for every signal of those symbols. The token "
    "comes in the handshake: Authorization: Bearer, or the subprotocols 'bearer' and the token."
)


def routes(router: Router) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        return Response(200, _encoded())

    router.add("GET", "/openapi.json", get)


@functools.cache
def _encoded() -> bytes:
    return answer(document()).body


@functools.cache
def document() -> Json:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bellwether",
            "version": "1",
            "description": "Market bars in, signals out; Open Inference Protocol v2 and MLflow scoring too.",
        },
        "security": [{}, {"bearer": []}],
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "paths": {**_signals(), **_open_inference(), **_scoring(), **_service()},
    }


def _signals() -> Json:
    one_or_many = {"anyOf": [reference("BarBody"), reference("BarsBody")]}
    answers = {"anyOf": [reference("Signal"), reference("SignalsBody")]}
    stream = _operation("signals", "WebSocket: bars in, signals out", text=_STREAM_TEXT, query=[_SUBSCRIBE])
    stream["x-messages"] = {name: reference(name) for name in STREAM_MESSAGES}
    stream["responses"] = {
        "101": {"description": "the handshake of a WebSocket"},
        "426": {"description": "not a WebSocket", "content": _json(reference("Error"))},
        **{code: stream["responses"][code] for code in ("4XX", "503")},
    }
    return {
        "/v1/bars": {"post": _operation("signals", "Bars in, signals out", answers, one_or_many)},
        "/v1/signal/{symbol}": {
            "get": _operation(
                "signals",
                "The signal as of the last bar",
                reference("Signal"),
                path=["symbol"],
                query=[_TIMEFRAME],
            )
        },
        "/v1/features/{symbol}": {
            "get": _operation(
                "signals",
                "The newest row the model sees",
                reference("FeaturesBody"),
                path=["symbol"],
                query=[_TIMEFRAME],
            )
        },
        "/v1/stream": {"get": stream},
    }


def _open_inference() -> Json:
    tag = "open inference"
    ready = _operation(tag, "Can it answer; names what is degraded", reference("ServerReady"))
    ready["responses"]["503"] = {"description": "no model", "content": _json(reference("ServerReady"))}
    paths = {
        "/v2": {"get": _operation(tag, "Server metadata", reference("ServerMetadata"))},
        "/v2/health/live": {"get": _operation(tag, "Is the process up", reference("ServerLive"))},
        "/v2/health/ready": {"get": ready},
        "/v2/repository/index": {
            "post": _operation(tag, "Models served", array(reference("RepositoryModel")))
        },
    }
    for base, names in (("", ["model"]), ("/versions/{version}", ["model", "version"])):
        model = f"/v2/models/{{model}}{base}"
        paths[model] = {"get": _operation(tag, "Model metadata", reference("ModelMetadata"), path=names)}
        paths[f"{model}/ready"] = {
            "get": _operation(tag, "Is the model loaded", reference("ModelReady"), path=names)
        }
        paths[f"{model}/infer"] = {"post": _infer(tag, names)}
    return paths


def _infer(tag: str, names: list[str]) -> Json:
    infer = _operation(tag, "Score tensors", reference("InferResponse"), reference("InferBody"), path=names)
    infer["description"] = (
        "JSON, or the binary tensor extension: a JSON header of Inference-Header-Content-Length bytes, then "
        "the tensors. An output is binary when its parameter binary_data, or else the request's "
        "binary_data_output, says so."
    )
    infer["parameters"].append(_HEADER_LENGTH)
    infer["requestBody"]["content"] |= _BINARY
    infer["responses"]["200"]["content"] |= _BINARY
    return infer


def _scoring() -> Json:
    tag = "mlflow scoring"
    ping = {code: {"description": text} for code, text in (("200", "a model is loaded"), ("503", "none is"))}
    pinged = {"tags": [tag], "summary": "Is a model loaded", "responses": ping}
    return {
        "/ping": {"get": {**pinged, "operationId": "get_ping"}},
        "/health": {"get": {**pinged, "operationId": "get_health"}},
        "/version": {
            "get": _operation(tag, "Release of MLflow whose protocol this is", _TEXT, media="text/plain")
        },
        "/invocations": {
            "post": _operation(
                tag, "Score inputs or rows", reference("InvocationResponse"), reference("InvocationBody")
            )
        },
    }


def _service() -> Json:
    tag = "service"
    return {
        "/metrics": {"get": _operation(tag, "Prometheus metrics", _TEXT, media="text/plain")},
        "/openapi.json": {"get": _operation(tag, "This document", {"type": "object"})},
        "/docs": {"get": _operation(tag, "This document as a page", _TEXT, media="text/html")},
    }


def _operation(
    tag: str,
    summary: str,
    result: Json | None = None,
    body: Json | None = None,
    *,
    text: str | None = None,
    path: list[str] | None = None,
    query: list[Json] | None = None,
    media: str = "application/json",
) -> Json:
    """One operation; its parameters are the variable parts of the path and `query`."""
    refused = _json(reference("Error"))
    operation: Json = {
        "tags": [tag],
        "summary": summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in path or []),
            *(query or []),
        ],
        "responses": {
            "200": {"description": "done", "content": {media: {"schema": result or {}}}},
            "4XX": {"description": "refused; the message says the rule", "content": refused},
            "503": {"description": "no model is loaded yet, or too many requests", "content": refused},
        },
    }
    if text:
        operation["description"] = text
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}

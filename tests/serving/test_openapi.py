"""The OpenAPI document tells the truth about what is answered; /docs shows all of it on one page."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pandas as pd
import pytest

from serving.app import App
from serving.plane import Plane
from serving.protocols.openapi import document
from tests.serving.kit import as_body
from tests.serving.wire import run

TENSOR = {"name": "features", "shape": [1, 4, 89], "datatype": "FP32", "data": [0.5] * 356}
POSTS: dict[str, Any] = {
    "/v1/bars": None,
    "/v2/repository/index": {},
    "/v2/models/{model}/infer": {"id": "1", "inputs": [TENSOR]},
    "/v2/models/{model}/versions/{version}/infer": {"inputs": [TENSOR], "outputs": [{"name": "confidence"}]},
    "/invocations": {"instances": [[[0.5] * 89] * 4]},
}
OPERATIONS = [(method, path) for path, methods in document()["paths"].items() for method in methods]


@pytest.fixture
def app(new_plane: Callable[[Path], Plane], bundle: Path) -> App:
    return App(new_plane(bundle))


def _call(app: App, method: str, path: str, body: Any = None) -> httpx.Response:
    response: httpx.Response = run(app, lambda client: client.request(method, path, json=body))
    return response


def _validate(value: Any, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": document()["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_documented(app: App, bars: pd.DataFrame, method: str, path: str) -> None:
    described = document()["paths"][path][method]
    filled = path.format_map({"model": "sp500-1d", "version": "1", "symbol": "sp500"})
    body = as_body(bars.iloc[601:602])[0] if path == "/v1/bars" else POSTS.get(path)
    answer = _call(app, method, filled, body)
    response = described["responses"][str(answer.status_code)]
    assert answer.status_code == (426 if path == "/v1/stream" else 200), answer.text
    for media, content in response.get("content", {}).items():
        if media == "application/json":
            _validate(answer.json(), content["schema"])
            break
    if body is not None and "requestBody" in described:
        _validate(body, described["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_is_complete(method: str, path: str) -> None:
    operation = document()["paths"][path][method]
    given = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
    assert given == set(re.findall(r"{(\w+)}", path))
    assert operation["summary"]
    assert operation["tags"]
    assert operation["responses"]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "$ref")
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_every_shape_is_there_and_used() -> None:
    shapes = document()["components"]["schemas"]
    used = {reference.rsplit("/", 1)[1] for reference in _references(document())}
    assert used == set(shapes)


def test_the_page_needs_no_other_file_and_shows_every_path(app: App) -> None:
    answer = _call(app, "GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    assert re.findall(r"<script|<link|<img|src=|url\(|@import|https?://", page) == []
    assert all(path in page for _, path in OPERATIONS)
    assert all(f'id="{name}"' in page for name in document()["components"]["schemas"])
    targets = set(re.findall(r'href="#(\w+)"', page))
    assert targets <= set(re.findall(r'id="(\w+)"', page))

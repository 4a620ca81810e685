"""GET /docs: the OpenAPI document as a page that needs no script, no network and no other file."""

import functools
from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import Any

import msgspec

from serving.http import Request, Response, Router
from serving.protocols.openapi import document

CONTENT_TYPE = b"text/html; charset=utf-8"
_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid #8884; border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: .4rem; }
.method { display: inline-block; min-width: 3.2rem; font-weight: 600; } .dim { opacity: .7; }
td { padding-right: 1rem; vertical-align: top; }
"""


def routes(router: Router) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        return Response(200, page().encode(), CONTENT_TYPE, [_POLICY])

    router.add("GET", "/docs", get)


@functools.cache
def page() -> str:
    """The whole page."""
    described = document()
    operations = [
        (operation["tags"][0], method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    info = described["info"]
    parts = [f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])} "]
    parts.append('For tools: <a href="/openapi.json">/openapi.json</a>.</p>')
    for tag, group in groupby(operations, key=lambda item: item[0]):
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += [_operation(method, path, operation) for _, method, path, operation in group]
    parts.append("<h2>Shapes</h2>")
    parts += [_shape(name, shape) for name, shape in described["components"]["schemas"].items()]
    head = f"<meta charset=utf-8><title>{escape(info['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    summary = (
        f'<span class="method">{method}</span> <code>{escape(path)}</code> {escape(operation["summary"])}'
    )
    return f"<details><summary>{summary}</summary>{''.join(_body(operation))}</details>"


def _body(operation: dict[str, Any]) -> Iterator[str]:
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    if operation.get("parameters"):
        yield f"<h4>Parameters</h4><table>{''.join(map(_parameter, operation['parameters']))}</table>"
    if "requestBody" in operation:
        yield "<h4>Body</h4>"
        yield from _contents(operation["requestBody"]["content"])
    if "x-messages" in operation:
        yield f"<h4>Messages</h4><p>{', '.join(map(_kind, operation['x-messages'].values()))}</p>"
    yield "<h4>Answers</h4>"
    for code, response in operation["responses"].items():
        yield f"<p><code>{escape(code)}</code> {escape(response['description'])}</p>"
        yield from _contents(response.get("content", {}))


def _parameter(parameter: dict[str, Any]) -> str:
    cells = (parameter["name"], parameter["in"], parameter.get("description", ""))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _contents(contents: dict[str, Any]) -> Iterator[str]:
    for media, content in contents.items():
        yield f'<p class="dim"><code>{escape(media)}</code>: {_kind(content["schema"])}</p>'


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words, its named shapes linked."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    return escape(str(schema.get("type", "any JSON")))


def _shape(name: str, shape: dict[str, Any]) -> str:
    told = shape.get("description", "").partition("\n")[0]
    listing = msgspec.json.format(msgspec.json.encode(shape), indent=2).decode()
    head = f"<summary><code>{escape(name)}</code> {escape(told)}</summary>"
    return f'<details id="{escape(name)}">{head}<pre>{escape(listing)}</pre></details>'

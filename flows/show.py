"""Results as Prefect artifacts: pure text first, one function that publishes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from core.settings import Settings

_BARE = (str, int, float, bool, type(None))


def key(*parts: str) -> str:
    """An artifact key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def publish(name: str, title: str, facts: Mapping[str, Any], links: Mapping[str, str] | None = None) -> None:
    """Publish facts as one markdown artifact and every list of records in them as a table."""
    create_markdown_artifact(markdown(title, facts, links or {}), key=key(name), description=title)
    for field, value in facts.items():
        if is_table(value):
            create_table_artifact(list(value), key=key(name, field), description=f"{title}: {field}")


def markdown(title: str, facts: Mapping[str, Any], links: Mapping[str, str]) -> str:
    """A heading, plain facts as a table, links, lists as bullets, records as tables; in the facts' order."""
    parts = [f"# {title}"]
    if links:
        parts.append("\n".join(f"- [{name}]({target})" for name, target in links.items()))
    plain = {name: value for name, value in facts.items() if isinstance(value, _BARE)}
    if plain:
        parts.append(grid([{"what": _words(name), "value": value} for name, value in plain.items()]))
    parts += [_section(name, value) for name, value in facts.items() if name not in plain and value]
    return "\n\n".join(parts) + "\n"


def grid(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as a markdown table; columns in the first record's order."""
    columns = list(records[0])
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(cell(record.get(column)) for column in columns) for record in records]
    return "\n".join(f"| {line} |" for line in lines)


def cell(value: Any) -> str:
    """One value for a table: four digits, a dash for nothing, no character that breaks the table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def is_table(value: Any) -> bool:
    """True for a non-empty list of records."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def version_link(settings: Settings, model: str, version: str) -> str:
    """The page of a model version in the MLflow UI that `bellwether up` starts."""
    return f"http://127.0.0.1:{settings.mlflow_port}/#/models/{model}/versions/{version}"


def _section(name: str, value: Any) -> str:
    if is_table(value):
        body = grid(value)
    elif isinstance(value, Mapping):
        body = grid([{"what": _words(str(k)), "value": v} for k, v in value.items()])
    else:
        body = "\n".join(f"- {item}" for item in value)
    return f"## {_words(name)}\n\n{body}"


def _words(name: str) -> str:
    return name.replace("_", " ")

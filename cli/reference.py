"""docs/reference.md and docs/features.md: `python -m cli.reference` writes them, a test compares them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli import feature_reference
from cli.main import app
from cli.markdown import table
from core.files import write_text
from core.settings import Settings
from models.families import FAMILIES
from pipelines.params import PARAMS_FILE
from serving.metrics import Metrics
from serving.protocols.metrics import HELP
from serving.protocols.openapi import document

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"
FEATURES_PAGE = ROOT / "docs" / "features.md"
_LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#]*?))?(?: *# (?P<comment>.*))?$")


def render() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "Made from the code by `python -m cli.reference`; a test keeps it true.",
        "## Commands",
        table(("command", "what it does"), _commands()),
        "Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 refused by a gate, 130 ctrl-C (0 of "
        "`serve` and `up`, which end so). Every command but `up` takes `--json`.",
        "## Parameters (`params.yaml`)",
        table(("parameter", "default", "meaning"), _parameters((ROOT / PARAMS_FILE).read_text())),
        "## Parameters of the model families (`train.<family>`)",
        table(("parameter", "default", "meaning"), _family_parameters()),
        "## Environment",
        table(("variable", "default", "meaning"), _settings()),
        "## HTTP",
        table(("request", "what it does"), _routes()),
        "## Metrics (`/metrics`)",
        table(("metric", "meaning"), _metrics()),
    ]
    return "\n\n".join(parts) + "\n"


def _commands() -> Iterator[tuple[str, str]]:
    group = typer.main.get_command(app)
    for name, command in sorted(getattr(group, "commands", {}).items()):
        shown = [max(p.opts, key=len) for p in command.params if p.opts and p.opts[0].startswith("-")]
        options = " ".join(f"`{option}`" for option in shown if option != "--help")
        yield f"`bellwether {name}`", " ".join([str(command.help).strip(), options]).strip()


def _parameters(text: str) -> Iterator[tuple[str, str, str]]:
    """Names, defaults and comments of params.yaml, as the file has them."""
    path: list[str] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        path = [*path[: len(match["indent"]) // 2], match["key"]]
        if match["value"]:
            yield f"`{'.'.join(path)}`", f"`{match['value'].strip()}`", match["comment"] or ""


def _family_parameters() -> Iterator[tuple[str, str, str]]:
    for family in FAMILIES.values():
        fields = type(family.read_params({})).model_fields
        for name, field in fields.items():
            yield f"`train.{family.name}.{name}`", f"`{field.default}`", field.description or ""


def _settings() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        default = "the checkout" if name == "home" else f"`{field.default}`"
        yield f"`BELLWETHER_{name.upper()}`", default, field.description or ""


def _routes() -> Iterator[tuple[str, str]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"`{method.upper()} {path}`", operation.get("summary", "")


def _metrics() -> Iterator[tuple[str, str]]:
    for metric in vars(Metrics()).values():
        shown: Any = metric
        if hasattr(shown, "name") and hasattr(shown, "text"):
            yield f"`{shown.name}`", shown.text
    for name, text in HELP.items():
        yield f"`{name}`", text


if __name__ == "__main__":
    write_text(PAGE, render())
    write_text(FEATURES_PAGE, feature_reference.render())

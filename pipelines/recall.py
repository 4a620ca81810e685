"""How a served model was trained, as overrides of the checkout's parameters: what a retrain needs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.bundle import CHAMPION
from core.settings import Settings
from pipelines.params import PARAMS_FILE, read_tree
from pipelines.promotion import find, open_registry, resolve_model

SOURCE_TAG = "source_path"
# a retrain sees newer bars: the as-of day is its own
_NOT_RECALLED = {"data.until"}


def overrides_of(settings: Settings, model: str) -> dict[str, Any]:
    """Parameters in which the champion's run differed from the checkout's, as block.key → value.

    A user's file is named by the path it came from, where newer bars are appended, not by its copy.
    Nothing for a model without a champion.
    """
    registry = open_registry(settings)
    holder = registry.get_alias(resolve_model(registry, model), CHAMPION)
    if holder is None:
        return {}
    version = find(registry, model, holder)
    used = read_tree(_pipeline(version.directory) / PARAMS_FILE)
    changed = differences(read_tree(settings.home / PARAMS_FILE), used)
    if source := version.tags.get(SOURCE_TAG):
        changed["data.path"] = source
    return changed


def _pipeline(bundle: Path) -> Path:
    return bundle.parent / "pipeline"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """block.key → value of `theirs` wherever it differs from `ours`."""
    known = dict(_flat(ours))
    return {name: value for name, value in _flat(theirs) if name not in known or known[name] != value}


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for block, values in tree.items():
        for key, value in values.items():
            if f"{block}.{key}" not in _NOT_RECALLED:
                yield f"{block}.{key}", value

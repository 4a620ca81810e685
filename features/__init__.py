"""Causal features: one definition for batch and stream.

`build(bars)`, `Stream()`, `names()`, `definitions()`, `warmup()`, `parse(text)`; resolved on first use, so
that importing the package stays free.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "build": "features.batch",
    "Stream": "features.stream",
    "names": "features.catalogue",
    "definitions": "features.catalogue",
    "warmup": "features.catalogue",
    "parse": "features.parser",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'features' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

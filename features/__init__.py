"""Causal features: one definition for batch and stream.

`build(bars)`, `build_blocks(bars)`, `Stream()`, `names()`, `definitions()`, `warmup()`, `parse(text)`, and of
many symbols `build_universe(sources, target)`, `UniverseStream(symbols)`: over catalogue `full` unless told
otherwise. Resolved on first use, so that importing the package stays free.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.batch import build, build_blocks
    from features.catalogue import definitions, names, warmup
    from features.parser import parse
    from features.stream import Stream
    from features.universe.build import build_universe
    from features.universe.stream import UniverseStream

_HOMES = {
    "build": "features.batch",
    "build_blocks": "features.batch",
    "Stream": "features.stream",
    "names": "features.catalogue",
    "definitions": "features.catalogue",
    "warmup": "features.catalogue",
    "parse": "features.parser",
    "build_universe": "features.universe.build",
    "UniverseStream": "features.universe.stream",
}
__all__ = [
    "Stream",
    "UniverseStream",
    "build",
    "build_blocks",
    "build_universe",
    "definitions",
    "names",
    "parse",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'features' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

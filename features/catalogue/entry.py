"""One line of the catalogue."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """A named expression; `range` says its bounds or unit, `source` where it comes from."""

    name: str
    expression: str
    group: str
    range: str
    source: str

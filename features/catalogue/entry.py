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


def group(name: str, *lines: tuple[str, str, str, str]) -> tuple[Feature, ...]:
    """Features of one group from lines of (name, expression, range, source); "" is common practice."""
    return tuple(Feature(line[0], line[1], name, line[2], line[3] or "common practice") for line in lines)

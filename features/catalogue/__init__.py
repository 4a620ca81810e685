"""Catalogues of named stationary features, and what is derived from their definitions.

- `core`: few features per idea, the default of a run.
- `full`: everything but `alpha158`, core included.
- `alpha158`: Qlib's set under Qlib's names, for comparison with work that uses it.

Within a catalogue no two features share a name or a definition. Flat prices and empty volume read as
neutral (the middle of the range, or a ratio of 1). After its warm-up a feature is NaN only where it has no
meaning: correlation, skewness, kurtosis and R-squared of a window in which nothing varies, and what counts
from an anchor (the first bar of a session, of a month) before history holds one.
"""

import difflib
import functools
from collections.abc import Mapping

from core.errors import ConfigurationError
from features import kept
from features.catalogue import (
    alpha158,
    average,
    calendar,
    candle,
    levels,
    microstructure,
    momentum,
    pattern,
    price,
    regime,
    statistics,
    trend,
    volatility,
    volume,
)
from features.catalogue.core import CORE
from features.catalogue.entry import Feature
from features.parser import parse, parse_all
from features.program import Program, compile_program

FULL: tuple[Feature, ...] = (
    *price.FEATURES,
    *average.FEATURES,
    *trend.FEATURES,
    *momentum.FEATURES,
    *volatility.FEATURES,
    *levels.FEATURES,
    *volume.FEATURES,
    *statistics.FEATURES,
    *microstructure.FEATURES,
    *candle.FEATURES,
    *pattern.FEATURES,
    *calendar.FEATURES,
    *regime.FEATURES,
)
_BY_NAME = {feature.name: feature for feature in FULL}
CATALOGUES: dict[str, tuple[Feature, ...]] = {
    "core": tuple(_BY_NAME[name] for name in CORE),
    "full": FULL,
    "alpha158": alpha158.FEATURES,
}

__all__ = ["CATALOGUES", "CORE", "FULL", "Feature", "compiled", "definitions", "entries", "names", "warmup"]


def entries(catalog: str = "full") -> tuple[Feature, ...]:
    """The features of a catalogue in its order; ConfigurationError for a name that no catalogue has."""
    if catalog not in CATALOGUES:
        close = difflib.get_close_matches(catalog, CATALOGUES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(CATALOGUES)}"
        raise ConfigurationError(f"catalogue {catalog!r} is unknown: {hint}")
    return CATALOGUES[catalog]


def names(catalog: str = "full") -> list[str]:
    """Feature names in catalogue order."""
    return [feature.name for feature in entries(catalog)]


@functools.cache
def _canonical(catalog: str) -> dict[str, str]:
    return {feature.name: parse(feature.expression).text for feature in entries(catalog)}


def definitions(catalog: str = "full") -> dict[str, str]:
    """Canonical expression text per name: free of shorthands, so it means the same for ever."""
    return dict(_canonical(catalog))


def warmup(definitions: Mapping[str, str] | None = None) -> int:
    """Bars before every feature is defined: the index of the first complete row."""
    return compiled(definitions).warmup


def compiled(definitions: Mapping[str, str] | None = None) -> Program:
    """The program of `definitions` (None: all of `full`); ConfigurationError lists every fault by name."""
    chosen = _canonical("full") if definitions is None else definitions
    return _compiled(tuple(chosen.items()))


@functools.lru_cache(maxsize=64)
def _compiled(chosen: tuple[tuple[str, str], ...]) -> Program:
    return kept.program(chosen, lambda: compile_program(parse_all(dict(chosen))))

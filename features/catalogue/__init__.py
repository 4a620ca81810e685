"""The catalogue: named stationary features, and what is derived from their definitions.

Flat prices and empty volume read as neutral (the middle of the range, or a ratio of 1). After its warm-up a
feature is NaN only where it has no meaning: correlation, skewness, kurtosis and R-squared of a window in
which nothing varies.
"""

import functools
from collections.abc import Mapping

from core.errors import ConfigurationError
from features.catalogue import (
    calendar,
    candle,
    momentum,
    price,
    statistics,
    trend,
    volatility,
    volume,
)
from features.catalogue.entry import Feature
from features.parser import parse
from features.program import Program, compile_program

CATALOGUE: tuple[Feature, ...] = (
    *price.FEATURES,
    *trend.FEATURES,
    *momentum.FEATURES,
    *volatility.FEATURES,
    *volume.FEATURES,
    *statistics.FEATURES,
    *candle.FEATURES,
    *calendar.FEATURES,
)

__all__ = ["CATALOGUE", "Feature", "compiled", "definitions", "names", "warmup"]


def names() -> list[str]:
    """Feature names in catalogue order."""
    return [feature.name for feature in CATALOGUE]


@functools.cache
def _canonical() -> dict[str, str]:
    return {feature.name: parse(feature.expression).text for feature in CATALOGUE}


def definitions() -> dict[str, str]:
    """Canonical expression text per name: free of shorthands, so it means the same for ever."""
    return dict(_canonical())


def warmup(definitions: Mapping[str, str] | None = None) -> int:
    """Bars before every feature is defined: the index of the first complete row."""
    return compiled(definitions).warmup


def compiled(definitions: Mapping[str, str] | None = None) -> Program:
    """The program of `definitions` (None: the catalogue); ConfigurationError lists every fault by name."""
    chosen = _canonical() if definitions is None else definitions
    return _compiled(tuple(chosen.items()))


@functools.lru_cache(maxsize=64)
def _compiled(chosen: tuple[tuple[str, str], ...]) -> Program:
    expressions, faults = {}, []
    for name, text in chosen:
        try:
            expressions[name] = parse(text)
        except ConfigurationError as error:
            faults.append(f"feature {name!r}: {error}")
    if faults:
        raise ConfigurationError(faults)
    return compile_program(expressions)

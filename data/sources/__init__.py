"""Where bars come from: one file per source, opened by name.

A source hands over rows as they are. It settles columns, number types and bar times; whether a row can be
believed is decided by `data.quality`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from core.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from core.timeframe import Timeframe

_SOURCES = {"arch_sp500": "arch_sp500:ArchSp500", "csv": "csv_file:CsvFile"}

Moment = str | date | datetime | None


@dataclass(frozen=True)
class SourceRequest:
    """What to fetch.

    `timeframe` and `calendar` may be "auto". `start` and `until` are both inclusive; a bare date means that
    whole day (UTC), and a bar that closes at midnight belongs to the day that ends there.
    """

    symbol: str
    path: Path | str | None = None
    timeframe: str = "auto"
    calendar: str = "auto"
    start: Moment = None
    until: Moment = None


@dataclass(frozen=True)
class RawBars:
    """Rows as the source has them: columns and types are right, order and values are not yet checked.

    `bars` has a UTC index "timestamp" (the bar's close) and float64 open, high, low, close, volume.
    """

    bars: pd.DataFrame
    symbol: str
    timeframe: Timeframe
    calendar: str
    description: str


class Source(Protocol):
    """Anything that can hand over bars."""

    def fetch(self, request: SourceRequest) -> RawBars:
        """Bars that match `request`; DataError when there are none or they cannot be read."""


def source_names() -> list[str]:
    """Every name `open_source` takes."""
    return sorted(_SOURCES)


def open_source(name: str) -> Source:
    """A source by name; ConfigurationError when there is none of that name."""
    try:
        module, attribute = _SOURCES[name].split(":")
    except KeyError as error:
        raise ConfigurationError(
            f"data.source {name!r} is unknown: use one of {', '.join(source_names())}"
        ) from error
    return cast(Source, getattr(importlib.import_module(f"{__name__}.{module}"), attribute)())

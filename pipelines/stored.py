"""Reading what earlier stages stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.files import read_json
from core.timeframe import Timeframe
from data.parquet import read_bars
from pipelines.tables import read_table
from pipelines.workspace import STORE


@dataclass(frozen=True)
class StoredBars:
    """Validated bars and their description (bars.json)."""

    bars: pd.DataFrame
    facts: dict[str, Any]

    @property
    def timeframe(self) -> Timeframe:
        """Length of a bar."""
        return Timeframe.parse(self.facts["timeframe"])

    @property
    def model(self) -> str:
        """The registry's name of models on these bars: <symbol>-<timeframe>."""
        return f"{self.facts['symbol']}-{self.facts['timeframe']}"


def bars(root: Path) -> StoredBars:
    """The validated bars of a workspace."""
    facts = bar_facts(root)
    frame = read_bars(
        root / STORE / "validate" / "bars", facts["symbol"], Timeframe.parse(facts["timeframe"])
    )
    return StoredBars(frame, facts)


def bar_facts(root: Path) -> dict[str, Any]:
    """What the validated bars are, without reading them."""
    facts: dict[str, Any] = read_json(root / STORE / "validate" / "bars.json")
    return facts


@dataclass(frozen=True)
class FeatureManifest:
    """Name → expression in column order, and the row of the first complete vector."""

    definitions: dict[str, str]
    warmup: int


def feature_manifest(root: Path) -> FeatureManifest:
    """What the stored feature matrix holds."""
    plain = read_json(root / STORE / "features" / "manifest.json")
    return FeatureManifest(dict(plain["definitions"]), int(plain["warmup"]))


def feature_matrix(root: Path) -> pd.DataFrame:
    """The stored feature matrix: float64, a row per validated bar, NaN before warm-up."""
    return read_table(root / STORE / "features" / "matrix.parquet")


def labels(root: Path) -> pd.DataFrame:
    """The stored labels: label, ret, t1, weight by bar close."""
    return read_table(root / STORE / "labels" / "labels.parquet")

"""The reference that knows nothing: the rate of "up" among the training rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from core.files import canonical_json
from models.families.base import FamilyParams, check_classes, read_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of the base rate."""

    trailing_rows: int = Field(0, ge=0, description="use the last so many training rows; 0 uses all")


@dataclass(frozen=True)
class BaseRate:
    """P(up) is `rate`, whatever the features say."""

    rate: float

    def predict(self, x: Features, rows: Rows) -> Floats:
        """The rate, once per row [k]."""
        return np.full(len(rows), self.rate)

    def importance(self) -> None:
        """No feature is used."""

    def save(self, directory: Path) -> None:
        """Write `model.json`."""
        write_sealed(directory / "model.json", canonical_json({"rate": self.rate}).encode())


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> BaseRate:
    """The weighted rate of the (last `trailing_rows`) training rows."""
    rows = rows[-params.trailing_rows :] if params.trailing_rows else rows
    check_classes(data, rows)
    return BaseRate(float(np.sum(data.w[rows] * data.y[rows]) / np.sum(data.w[rows])))


def load(directory: Path) -> BaseRate:
    """The inverse of `BaseRate.save`."""
    return BaseRate(float(json.loads(read_sealed(directory / "model.json"))["rate"]))

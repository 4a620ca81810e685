"""The reference that knows nothing: the rate of each class among the training rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from core.files import canonical_json
from models.families.base import FamilyParams, check_classes, class_weights, read_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of the base rate."""

    trailing_rows: int = Field(0, ge=0, description="use the last so many training rows; 0 uses all")


@dataclass(frozen=True)
class BaseRate:
    """P(class) is its rate, whatever the features say; `rates` [K]."""

    rates: Floats

    def predict(self, x: Features, rows: Rows) -> Floats:
        """The rates, once per row [k, K]."""
        return np.tile(self.rates, (len(rows), 1))

    def importance(self) -> None:
        """No feature is used."""

    def contributions(self, x: Features, rows: Rows) -> None:
        """No feature is used."""

    def save(self, directory: Path) -> None:
        """Write `model.json`."""
        write_sealed(directory / "model.json", canonical_json({"rates": self.rates.tolist()}).encode())


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> BaseRate:
    """The weighted rates of the (last `trailing_rows`) training rows."""
    rows = rows[-params.trailing_rows :] if params.trailing_rows else rows
    check_classes(data, rows)
    weights = class_weights(data.y[rows], data.w[rows], len(data.classes))
    return BaseRate(weights / np.sum(weights))


def load(directory: Path) -> BaseRate:
    """The inverse of `BaseRate.save`."""
    return BaseRate(np.array(json.loads(read_sealed(directory / "model.json"))["rates"], dtype=np.float64))

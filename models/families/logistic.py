"""Ridge logistic regression on standardised features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from models.families.base import (
    FamilyParams,
    Scaler,
    check_classes,
    class_balance,
    read_arrays,
    write_arrays,
)
from models.logits import sigmoid

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of the logistic regression."""

    l2: float = Field(
        3000.0, gt=0, description="ridge on each coefficient, in rows: the Hessian of 4 * l2 coin tosses"
    )


@dataclass(frozen=True)
class Logistic:
    """sigmoid(scaled @ coef + intercept), scaled = (x - mean) / scale, missing -> 0; all float64."""

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: float

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(up) float64 [k]."""
        scaled = Scaler(self.mean, self.scale).transform(x[rows])
        # Row sums rather than a matrix product: BLAS rounds differently for different batch sizes.
        return sigmoid((scaled * self.coef).sum(axis=1) + self.intercept)

    def importance(self) -> Floats:
        """|coef|: the change of log-odds per standard deviation of each feature [F]."""
        return np.abs(self.coef)

    def save(self, directory: Path) -> None:
        """Write `model.npz`."""
        arrays = {"mean": self.mean, "scale": self.scale, "coef": self.coef}
        write_arrays(directory / "model.npz", {**arrays, "intercept": np.array(self.intercept)})


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> Logistic:
    """Newton's method on all `rows`; the ridge leaves nothing for early stopping to do."""
    check_classes(data, rows)
    w, offset = class_balance(data.y[rows], data.w[rows], params.class_weight)
    scaler = Scaler.fit(data.x[rows])
    with threadpool_limits(1):
        model = LogisticRegression(C=1.0 / params.l2, solver="newton-cholesky", tol=1e-8, max_iter=100)
        model.fit(scaler.transform(data.x[rows]), data.y[rows], sample_weight=w)
    coef = np.asarray(model.coef_[0], dtype=np.float64)
    return Logistic(scaler.mean, scaler.scale, coef, float(model.intercept_[0]) + offset)


def load(directory: Path) -> Logistic:
    """The inverse of `Logistic.save`."""
    stored = read_arrays(directory / "model.npz")
    return Logistic(stored["mean"], stored["scale"], stored["coef"], float(stored["intercept"]))

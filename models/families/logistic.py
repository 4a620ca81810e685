"""Ridge logistic regression on standardised features, multinomial for more than two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.families.base import (
    FamilyParams,
    Scaler,
    SearchSpace,
    Span,
    check_classes,
    class_balance,
    read_arrays,
    write_arrays,
)
from models.logits import ClassDesign, penalised_fit, softmax

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of the logistic regression."""

    l2: float = Field(
        3000.0, gt=0, description="ridge on each coefficient, in rows: the Hessian of 4 * l2 coin tosses"
    )


SPACE: SearchSpace = {"l2": Span(300.0, 30_000.0, log=True)}


@dataclass(frozen=True)
class Logistic:
    """softmax(0, scaled @ coef.T + intercept), scaled = (x - mean) / scale, missing -> 0; all float64.

    `coef` [K - 1, F] and `intercept` [K - 1] give the log-odds of the classes after the first against it.
    """

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: Floats

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]."""
        scaled = Scaler(self.mean, self.scale).transform(x[rows])
        # Row sums rather than a matrix product: BLAS rounds differently for different batch sizes.
        return softmax(np.column_stack([(scaled * own).sum(axis=1) for own in self.coef]) + self.intercept)

    def importance(self) -> Floats:
        """|coef|: change of log-odds per standard deviation of each feature [F], mean over classes."""
        return np.asarray(np.abs(self.coef).mean(axis=0))

    def contributions(self, x: Features, rows: Rows) -> Floats:
        """SHAP values [k, F] of independent features: coef * (x - mean) / scale, 0 where missing."""
        return np.asarray(Scaler(self.mean, self.scale).transform(x[rows]) * self.coef[-1])

    def save(self, directory: Path) -> None:
        """Write `model.npz`."""
        arrays = {"mean": self.mean, "scale": self.scale, "coef": self.coef, "intercept": self.intercept}
        write_arrays(directory / "model.npz", arrays)


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> Logistic:
    """Newton's method on all `rows`; the ridge leaves nothing for early stopping to do."""
    check_classes(data, rows)
    classes = len(data.classes)
    w, offsets = class_balance(data.y[rows], data.w[rows], params.class_weight, classes)
    scaler = Scaler.fit(data.x[rows])
    design = ClassDesign(np.vstack([scaler.transform(data.x[rows]).T, np.ones(len(rows))]), classes)
    # One coefficient per class: with this ridge a feature is shrunk as much whatever the number of classes.
    ridge = np.append(np.full(data.x.shape[1], 4.0 / classes * params.l2), 0.0)
    fitted = penalised_fit(
        design,
        data.y[rows],
        w,
        offset=np.zeros((len(rows), classes - 1)),
        centre=np.zeros(classes * len(ridge)),
        penalty=np.tile(ridge, classes),
    ).reshape(classes, -1)
    against_first = fitted[1:] - fitted[0]
    return Logistic(
        scaler.mean, scaler.scale, against_first[:, :-1].copy(), against_first[:, -1] + offsets[1:]
    )


def load(directory: Path) -> Logistic:
    """The inverse of `Logistic.save`."""
    stored = read_arrays(directory / "model.npz")
    return Logistic(stored["mean"], stored["scale"], stored["coef"], stored["intercept"])

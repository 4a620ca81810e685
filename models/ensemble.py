"""The stacking ensemble: one log-odds combination of the base models, and its confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from core.errors import ArtifactError
from core.files import read_json, write_json
from models.calibration import Calibrator
from models.families import get_family
from models.logits import Floats, logit, penalised_fit, prior_precisions, sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.dataset import Features, Rows
    from models.families.base import Fitted

REFERENCE = "base_rate"
"""The family that knows nothing: the stack shrinks toward it and confidence leaves it out."""
RECALIBRATED = "recalibrated_rate"
"""That family with an ensemble's intercept and calibrator: what the ensemble must beat."""


@dataclass(frozen=True)
class Stack:
    """z = intercept + logit(clip(base, 1e-6)) @ coef; columns of `base` in the order of `names`."""

    names: tuple[str, ...]
    coef: Floats
    intercept: float

    def logit(self, base: Floats) -> Floats:
        """Log-odds [n] of base probabilities [n, M]; what the calibrator takes."""
        return np.asarray(logit(base) @ self.coef + self.intercept, dtype=np.float64)

    def predict(self, base: Floats) -> Floats:
        """Uncalibrated probabilities [n] of base probabilities [n, M]."""
        return sigmoid(self.logit(base))

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        return {
            "names": list(self.names),
            "coef": self.coef.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; ArtifactError when a field is missing."""
        try:
            coef = np.asarray(stored["coef"], dtype=np.float64)
            return cls(tuple(stored["names"]), coef, float(stored["intercept"]))
        except (KeyError, TypeError, ValueError) as fault:
            raise ArtifactError(f"stack: unreadable ({fault!r}); fit it again") from fault


def fit_stack(
    names: Sequence[str],
    base: Floats,
    y: Floats,
    w: Floats,
    *,
    shrinkage: float = 1.0,
    prior_weight: float = 0.5,
) -> Stack:
    """Fit on out-of-fold base probabilities [n, M], outcomes `y` (0 or 1) and weights `w`, [n].

    `base` must be out of fold: in-sample probabilities make the stack trust whoever overfits most.
    Each model's weight acts on how far its log-odds depart from those of the base rate, and is pulled
    to `prior_weight` / models: 0 is the base rate, 1 the plain average of the models. `shrinkage` is how
    hard: 1 takes PRIOR_SPREAD and PRIOR_DRIFT as they are, 4 halves both. Without a base-rate column
    the reference is the rate of `y`. Finite for few rows, one class or none.
    """
    z = logit(base)
    reference = _reference(names, z, y, w)
    models = [i for i, name in enumerate(names) if name != REFERENCE]
    departures = z[:, models] - reference[:, None]  # [n, models]
    fitted = penalised_fit(
        np.column_stack([departures, np.ones(len(z))]),
        y,
        w,
        offset=reference,
        centre=np.append(np.full(len(models), prior_weight / max(len(models), 1)), 0.0),
        penalty=prior_precisions(shrinkage, len(models)),
    )
    return _as_plain_stack(tuple(names), models, fitted, reference)


def _reference(names: Sequence[str], z: Floats, y: Floats, w: Floats) -> Floats:
    if REFERENCE in names:
        return np.asarray(z[:, list(names).index(REFERENCE)], dtype=np.float64)
    total = float(np.sum(w))
    rate = float(np.sum(w * y)) / total if total > 0.0 else 0.5
    return np.full(len(z), logit(np.array(rate)))


def _as_plain_stack(names: tuple[str, ...], models: list[int], fitted: Floats, reference: Floats) -> Stack:
    coef = np.zeros(len(names))
    coef[models] = fitted[:-1]
    left_over = 1.0 - float(np.sum(fitted[:-1]))
    if REFERENCE in names:
        coef[names.index(REFERENCE)] = left_over
        return Stack(names, coef, float(fitted[-1]))
    constant = float(reference[0]) if len(reference) else 0.0
    return Stack(names, coef, float(fitted[-1]) + left_over * constant)


def confidence(probability: Floats, base: Floats, names: Sequence[str]) -> Floats:
    """|2p - 1| * (1 - 2 std of the base probabilities), clipped to [0, 1]; [n], float64.

    `probability` [n] calibrated, `base` [n, M] in the order of `names`; the standard deviation is
    the population's, over the models without the base rate (0 when there is none). 0 means a coin
    toss or models that disagree, 1 certainty they share.
    """
    voters = [i for i, name in enumerate(names) if name != REFERENCE]
    spread = np.std(base[:, voters], axis=1) if voters else np.zeros(len(base))
    return np.asarray(
        np.clip(np.abs(2.0 * probability - 1.0) * (1.0 - 2.0 * spread), 0.0, 1.0), dtype=np.float64
    )


@dataclass(frozen=True)
class Predictions:
    """Rows [k] of an ensemble: base probabilities [k, M], calibrated probability, confidence."""

    base: Floats
    probability: Floats
    confidence: Floats


@dataclass(frozen=True)
class Ensemble:
    """Base models by name, the stack over them, the calibrator over the stack."""

    fitted: dict[str, Fitted]
    stack: Stack
    calibrator: Calibrator
    feature_names: tuple[str, ...]
    window: int

    def predict(self, x: Features, rows: Rows) -> Predictions:
        """Predictions at `rows` [k] of `x` float32 [n, F]."""
        base = np.column_stack([self.fitted[name].predict(x, rows) for name in self.stack.names])
        return combine(self.stack, self.calibrator, base)

    def importance(self) -> dict[str, Floats]:
        """Feature importance [F] of each family that has one, in that family's own measure."""
        measured = {name: model.importance() for name, model in self.fitted.items()}
        return {name: values for name, values in measured.items() if values is not None}

    def save(self, directory: Path) -> None:
        """Write `ensemble.json` and a folder of native files per family; equal ensembles, equal bytes."""
        for name, model in self.fitted.items():
            (directory / name).mkdir(parents=True, exist_ok=True)
            model.save(directory / name)
        own = {
            "stack": self.stack.to_json(),
            "calibrator": self.calibrator.to_json(),
            "feature_names": list(self.feature_names),
            "window": self.window,
        }
        write_json(directory / "ensemble.json", own)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The inverse of `save`; ArtifactError when a file is missing or unreadable."""
        own = read_json(directory / "ensemble.json")
        stack = Stack.from_json(own["stack"])
        fitted = {name: get_family(name).load(directory / name) for name in stack.names}
        calibrator = Calibrator.from_json(own["calibrator"])
        return cls(fitted, stack, calibrator, tuple(own["feature_names"]), int(own["window"]))


def combine(stack: Stack, calibrator: Calibrator, base: Floats) -> Predictions:
    """Stack, calibrate and rate base probabilities [k, M]."""
    probability = calibrator.predict(stack.logit(base))
    return Predictions(base, probability, confidence(probability, base, stack.names))

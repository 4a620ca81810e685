"""The stacking ensemble: one log-odds combination of the base models, and its confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from core.errors import ArtifactError
from models.logits import Floats, logit, penalised_fit, sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REFERENCE = "base_rate"
"""The family that knows nothing: the stack shrinks toward it and confidence leaves it out."""


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
    strength: float = 10.0,
    prior_weight: float = 0.5,
    intercept_strength: float = 250.0,
) -> Stack:
    """Fit on out-of-fold base probabilities [n, M], outcomes `y` (0 or 1) and weights `w`, [n].

    `base` must be out of fold: in-sample probabilities make the stack trust whoever overfits most.
    Each model's weight acts on how far its log-odds depart from those of the base rate, and is
    pulled to `prior_weight` / models by `strength` (a prior of standard deviation
    1 / sqrt(strength)): `prior_weight` 0 is the base rate, 1 the plain average of the models.
    Without a base-rate column the reference is the rate of `y`. `intercept_strength` pulls the
    intercept to the reference; a positive strength keeps the fit finite for few rows or one class.
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
        penalty=np.append(np.full(len(models), strength), intercept_strength),
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

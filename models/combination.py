"""How base models become one forecast: a stack of log-odds, a blend that follows skill, or a vote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from core.errors import ArtifactError, ConfigurationError
from models.logits import (
    CLIP,
    Floats,
    SharedDesign,
    log_losses,
    log_odds,
    penalised_fit,
    prior_precisions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.dataset import Rows

Method = Literal["stack", "blend", "vote"]

REFERENCE = "base_rate"
"""The family that knows nothing: the stack shrinks toward it; votes and confidence leave it out."""


@dataclass(frozen=True)
class Known:
    """Out-of-fold rows whose outcome is known: what a combination, its calibrator and its skill learn from.

    rows: ascending index into the data [n]. base: class probabilities [n, M, K]. y: class number [n].
    w: fitting weight [n]. evidence: how many independent rows each stands for [n]; labels that overlap
    repeat each other.
    """

    rows: Rows
    base: Floats
    y: Floats
    w: Floats
    evidence: Floats

    def __getitem__(self, part: slice) -> Self:
        """Some of the rows."""
        return replace(self, **{name: getattr(self, name)[part] for name in self.__dataclass_fields__})

    def recency(self, half_life: float) -> Floats:
        """1 for the newest row, a half `half_life` rows before it; [n]."""
        if len(self.rows) == 0:
            return np.empty(0)
        return np.asarray(0.5 ** ((self.rows[-1] - self.rows) / half_life), dtype=np.float64)

    def losses(self, probability: Floats) -> Floats:
        """Log-loss [n] in nats of class probabilities [n, K], capped: one row cannot silence a model."""
        return log_losses(self.y, probability, CLIP)


@dataclass(frozen=True)
class Stack:
    """z = intercept + sum of coef_m * log-odds of model m: `coef` [M] in the order of `names`, shared by the
    classes; `intercept` [K-1].
    """

    names: tuple[str, ...]
    coef: Floats
    intercept: Floats

    def logit(self, base: Floats) -> Floats:
        """Log-odds against the first class [n, K-1] of base probabilities [n, M, K]."""
        return _weighted(log_odds(base), self.coef) + self.intercept

    def shares(self) -> Floats:
        """Weight of each model's voice [M]: 0 for the base rate, and together 1."""
        return _shares(self.names, np.maximum(self.coef, 0.0))

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        own = {"coef": self.coef.tolist(), "intercept": self.intercept.tolist()}
        return {"kind": "stack", "names": list(self.names), **own}


@dataclass(frozen=True)
class Pool:
    """Log-odds of the mean of the models' class probabilities (linear opinion pool, Stone 1961) under
    `weights` [M] >= 0 that sum to 1.
    """

    names: tuple[str, ...]
    weights: Floats

    def logit(self, base: Floats) -> Floats:
        """Log-odds against the first class [n, K-1] of base probabilities [n, M, K]."""
        return log_odds(_weighted(base, self.weights))

    def shares(self) -> Floats:
        """Weight of each model's voice [M]: 0 for the base rate, and together 1."""
        return _shares(self.names, self.weights)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        return {"kind": "pool", "names": list(self.names), "weights": self.weights.tolist()}


Combination = Stack | Pool


def combination_from_json(stored: Mapping[str, Any]) -> Combination:
    """The inverse of `to_json`; ArtifactError when a field is missing."""
    try:
        names = tuple(stored["names"])
        if stored["kind"] == "pool":
            return Pool(names, np.asarray(stored["weights"], dtype=np.float64))
        coef, intercept = (np.asarray(stored[key], dtype=np.float64) for key in ("coef", "intercept"))
        return Stack(names, coef, intercept)
    except (KeyError, TypeError, ValueError) as fault:
        raise ArtifactError(f"combination: unreadable ({fault!r}); fit it again") from fault


def fit_combination(
    method: Method, names: Sequence[str], known: Known, *, half_life: float, shrinkage: float
) -> Combination:
    """Fit on out-of-fold rows; base probabilities of rows the models were fitted on would make it trust
    whoever overfits most. ConfigurationError: no such method.
    """
    if method == "stack":
        return fit_stack(names, known, shrinkage=shrinkage)
    if method == "blend":
        return fit_blend(names, known, half_life=half_life)
    if method == "vote":
        return Pool(tuple(names), _shares(names, np.ones(len(names))))
    raise ConfigurationError(f"ensemble.method = {method!r}: must be stack, blend or vote")


def fit_stack(
    names: Sequence[str], known: Known, *, shrinkage: float = 1.0, prior_weight: float = 0.5
) -> Stack:
    """Each model's weight acts on how far its log-odds depart from those of the base rate, and is pulled
    to `prior_weight` / models: 0 is the base rate, 1 the plain average of the models. `shrinkage` is how
    hard: 1 takes PRIOR_SPREAD and PRIOR_DRIFT as they are, 4 halves both. Without a base-rate column
    the reference is the rate of each class in `y`. Finite for few rows, one class or none.
    """
    z = log_odds(known.base)  # [n, M, K-1]
    reference = _reference(names, known)  # [n, K-1]
    models = [i for i, name in enumerate(names) if name != REFERENCE]
    departures = np.moveaxis(z[:, models] - reference[:, None], 0, 2)  # [models, K-1, n]
    others, n = reference.shape[1], len(reference)
    steps = np.broadcast_to(np.eye(others)[:, :, None], (others, others, n))
    fitted = penalised_fit(
        SharedDesign(np.concatenate([departures, steps])),
        known.y,
        known.w,
        offset=reference,
        centre=np.append(np.full(len(models), prior_weight / max(len(models), 1)), np.zeros(others)),
        penalty=prior_precisions(shrinkage, len(models), others),
    )
    slopes, intercept = fitted[: len(models)], fitted[len(models) :]
    coef = np.zeros(len(names))
    coef[models] = slopes
    left_over = 1.0 - float(np.sum(slopes))
    if REFERENCE in names:
        coef[list(names).index(REFERENCE)] = left_over
        return Stack(tuple(names), coef, intercept)
    constant = reference[0] if n else np.zeros(others)
    return Stack(tuple(names), coef, intercept + left_over * constant)


def fit_blend(names: Sequence[str], known: Known, *, half_life: float) -> Pool:
    """Weights proportional to exp(-loss), the sum of each model's log-loss over the rows, a row counting as
    the independent rows it stands for, halved every `half_life` rows.

    The exponentially weighted average forecaster with discounted losses (Cesa-Bianchi & Lugosi 2006, ch. 2)
    at the rate 1 that log-loss asks for, which makes it Bayes' rule with forgetting, as in dynamic model
    averaging (Raftery, Karny & Ettler 2010). The base rate takes part: it wins when nobody knows more.
    """
    weight = known.evidence * known.recency(half_life)
    totals = np.array([np.sum(weight * known.losses(known.base[:, m])) for m in range(len(names))])
    powers = np.exp(totals.min() - totals)
    return Pool(tuple(names), powers / powers.sum())


def class_rates(known: Known) -> Floats:
    """Weighted share of each class [K]; equal shares when no row weighs anything."""
    classes = known.base.shape[2]
    rates = np.bincount(known.y.astype(np.int64), weights=known.w, minlength=classes)
    total = float(rates.sum())
    return rates / total if total > 0.0 else np.full(classes, 1.0 / classes)


def _reference(names: Sequence[str], known: Known) -> Floats:
    """Log-odds [n, K-1] of what knows nothing."""
    if REFERENCE in names:
        return log_odds(known.base[:, list(names).index(REFERENCE)])
    constant = log_odds(class_rates(known))
    return np.broadcast_to(constant, (len(known.y), len(constant)))


def _shares(names: Sequence[str], weights: Floats) -> Floats:
    """`weights` of the voters scaled to sum 1; equal when they have none, all to the base rate alone."""
    voters = np.array([name != REFERENCE for name in names])
    own = np.where(voters, weights, 0.0)
    if not own.any():
        own = voters.astype(np.float64) if voters.any() else np.ones(len(voters))
    return np.asarray(own / own.sum(), dtype=np.float64)


def _weighted(values: Floats, weights: Floats) -> Floats:
    """Sum over models [n, C] of `values` [n, M, C], in one order whatever n is."""
    total = np.zeros((values.shape[0], values.shape[2]))
    for m, weight in enumerate(weights.tolist()):
        total += weight * values[:, m]
    return total

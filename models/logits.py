"""Log-odds, and the one penalised logistic fit that the stack and the calibrator share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""

PRIOR_SPREAD = 0.3
"""Standard deviation of a model's weight around the prior, before any out-of-fold row is seen."""
PRIOR_DRIFT = 0.06
"""The same of the log-odds that an intercept adds."""

_NEWTON_STEPS = 100
_STEP_TOLERANCE = 1e-12


def logit(probability: Floats) -> Floats:
    """Log-odds of probabilities clipped to [CLIP, 1 - CLIP]; any shape, float64."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped / (1.0 - clipped)), dtype=np.float64)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow; any shape, float64."""
    decay = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0.0, 1.0, decay) / (1.0 + decay), dtype=np.float64)


def prior_precisions(shrinkage: float, slopes: int) -> Floats:
    """Gaussian prior precisions of `slopes` weights and one intercept [slopes + 1]."""
    precisions = np.append(np.full(slopes, PRIOR_SPREAD**-2), PRIOR_DRIFT**-2)
    # Without any pull, separable rows would have no finite answer.
    return np.asarray(precisions * max(shrinkage, 1e-6), dtype=np.float64)


def penalised_fit(
    design: Floats, y: Floats, w: Floats, *, offset: Floats, centre: Floats, penalty: Floats
) -> Floats:
    """Minimise sum w * log-loss(y, offset + design @ c) + 1/2 sum penalty * (c - centre)^2.

    `design` [n, k], `y` (0 or 1), `w` and `offset` [n], `centre` and `penalty` (> 0) [k]; returns
    c [k]. A positive penalty keeps the answer finite for separable, single-class or empty data.
    Newton's method with step halving, so that the answer does not depend on an optimiser's library.
    """
    problem = _Problem(design, y, w, offset, centre, penalty)
    c, loss = centre.astype(np.float64), problem.loss(centre)
    for _ in range(_NEWTON_STEPS):
        previous = loss
        c, loss = _descend(problem, c, problem.newton_step(c), loss)
        if previous - loss <= _STEP_TOLERANCE * (1.0 + abs(previous)):
            break
    return c


@dataclass(frozen=True)
class _Problem:
    design: Floats
    y: Floats
    w: Floats
    offset: Floats
    centre: Floats
    penalty: Floats

    def loss(self, c: Floats) -> float:
        z = self.offset + self.design @ c
        data = float(np.sum(self.w * (np.logaddexp(0.0, z) - self.y * z)))
        return data + 0.5 * float(np.sum(self.penalty * (c - self.centre) ** 2))

    def newton_step(self, c: Floats) -> Floats:
        p = sigmoid(self.offset + self.design @ c)
        gradient = self.design.T @ (self.w * (p - self.y)) + self.penalty * (c - self.centre)
        curvature = self.design * (self.w * p * (1.0 - p))[:, None]  # [n, k]
        hessian = curvature.T @ self.design + np.diag(self.penalty)
        return np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)


def _descend(problem: _Problem, c: Floats, step: Floats, loss: float) -> tuple[Floats, float]:
    """The first of the whole step, its half, its quarter, … that does not raise the loss."""
    size = 1.0
    while size > _STEP_TOLERANCE:
        candidate = c - size * step
        candidate_loss = problem.loss(candidate)
        if candidate_loss <= loss:
            return candidate, candidate_loss
        size /= 2.0
    return c, loss

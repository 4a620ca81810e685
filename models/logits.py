"""Log-odds, and the one penalised logistic fit that the stack and the calibrator share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""

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


def penalised_fit(
    design: Floats, y: Floats, w: Floats, *, offset: Floats, centre: Floats, penalty: Floats
) -> Floats:
    """Minimise sum w * log-loss(y, offset + design @ c) + 1/2 sum penalty * (c - centre)^2.

    `design` [n, k], `y` (0 or 1), `w` and `offset` [n], `centre` and `penalty` (> 0) [k]; returns
    c [k]. A positive penalty keeps the answer finite for separable, single-class or empty data.
    Newton's method with step halving, so that the answer does not depend on an optimiser's library.
    """
    c = centre.astype(np.float64)
    loss = _loss(design, y, w, offset, c, centre, penalty)
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(design, y, w, offset, c, centre, penalty)
        c, new_loss = _descend(design, y, w, offset, c, step, loss, centre, penalty)
        converged = loss - new_loss <= _STEP_TOLERANCE * (1.0 + abs(loss))
        loss = new_loss
        if converged:
            break
    return c


def _loss(
    design: Floats,
    y: Floats,
    w: Floats,
    offset: Floats,
    c: Floats,
    centre: Floats,
    penalty: Floats,
) -> float:
    z = offset + design @ c
    data = float(np.sum(w * (np.logaddexp(0.0, z) - y * z)))
    return data + 0.5 * float(np.sum(penalty * (c - centre) ** 2))


def _newton_step(
    design: Floats,
    y: Floats,
    w: Floats,
    offset: Floats,
    c: Floats,
    centre: Floats,
    penalty: Floats,
) -> Floats:
    p = sigmoid(offset + design @ c)
    gradient = design.T @ (w * (p - y)) + penalty * (c - centre)
    hessian = (design * (w * p * (1.0 - p))[:, None]).T @ design + np.diag(penalty)
    return np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)


def _descend(
    design: Floats,
    y: Floats,
    w: Floats,
    offset: Floats,
    c: Floats,
    step: Floats,
    loss: float,
    centre: Floats,
    penalty: Floats,
) -> tuple[Floats, float]:
    size = 1.0
    while size > _STEP_TOLERANCE:
        candidate = c - size * step
        candidate_loss = _loss(design, y, w, offset, candidate, centre, penalty)
        if candidate_loss <= loss:
            return candidate, candidate_loss
        size /= 2.0
    return c, loss

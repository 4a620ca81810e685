"""Log-odds of K classes, and the one penalised logistic fit behind the stack, the calibrator and `logistic`.

Log-odds are against the first class: z [n, K-1], z_c = log(p_c / p_0) for c = 1 .. K-1; two classes have one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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
_SOLVE_TOLERANCE = 1e-9


def log_odds(probability: Floats) -> Floats:
    """log(clip(p_c) / clip(p_0)) [..., K-1] of class probabilities [..., K] clipped to [CLIP, 1 - CLIP]."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped[..., 1:] / clipped[..., :1]), dtype=np.float64)


def softmax(z: Floats) -> Floats:
    """Class probabilities [..., K] of log-odds against the first class [..., K-1], without overflow."""
    top = np.maximum(z.max(axis=-1, keepdims=True), 0.0)
    powers = np.concatenate([np.exp(-top), np.exp(z - top)], axis=-1)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float64)


def logit(probability: Floats) -> Floats:
    """Log-odds of probabilities clipped to [CLIP, 1 - CLIP]; any shape, float64."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped / (1.0 - clipped)), dtype=np.float64)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow; any shape, float64."""
    decay = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0.0, 1.0, decay) / (1.0 + decay), dtype=np.float64)


def log_losses(y: Floats, probability: Floats, least: float = 0.0) -> Floats:
    """Log-loss [n] in nats of class probabilities [n, K], `y` the class numbers that came [n].

    A probability under `least` counts as that; with 0 a certain miss costs infinity.
    """
    own = probability[np.arange(len(y)), y.astype(np.int64)]
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.maximum(own, least)), dtype=np.float64)


class Design(Protocol):
    """A linear map from coefficients to log-odds. Sums run in a fixed order, without BLAS, whose kernels
    round differently from processor to processor and from one number of rows to another.
    """

    def forward(self, c: Floats) -> Floats:
        """What coefficients [P] add to the log-odds: [K-1, n]."""

    def backward(self, g: Floats) -> Floats:
        """The transpose: [P] of [K-1, n]."""


@dataclass(frozen=True)
class SharedDesign:
    """Coefficients that every class shares: `columns` [P, K-1, n]."""

    columns: Floats

    def forward(self, c: Floats) -> Floats:
        """Log-odds [K-1, n]."""
        return np.asarray(np.einsum("pcn,p->cn", self.columns, c), dtype=np.float64)

    def backward(self, g: Floats) -> Floats:
        """Sums over rows and classes [P]."""
        return np.asarray(np.einsum("pcn,cn->p", self.columns, g), dtype=np.float64)


@dataclass(frozen=True)
class ClassDesign:
    """Coefficients of each class, the first among them: `columns` [F, n], and P = K * F, class by class.

    Only differences to the first class count. An equal penalty on all classes makes their sum 0 and treats
    them alike; with two classes `penalty` l acts on the one difference as l / 2 would.
    """

    columns: Floats
    classes: int

    def forward(self, c: Floats) -> Floats:
        """Log-odds [K-1, n]."""
        of_class = c.reshape(self.classes, -1)
        sums = [np.einsum("fn,f->n", self.columns, own - of_class[0]) for own in of_class[1:]]
        return np.asarray(np.stack(sums), dtype=np.float64)

    def backward(self, g: Floats) -> Floats:
        """Sums over rows [P]."""
        sums = np.stack([np.einsum("fn,n->f", self.columns, own) for own in g])
        return np.asarray(np.concatenate([-sums.sum(axis=0), sums.ravel()]), dtype=np.float64)


def prior_precisions(shrinkage: float, slopes: int, intercepts: int = 1) -> Floats:
    """Gaussian prior precisions of `slopes` weights and, after them, `intercepts`."""
    precisions = np.append(np.full(slopes, PRIOR_SPREAD**-2), np.full(intercepts, PRIOR_DRIFT**-2))
    # Without any pull, separable rows would have no finite answer.
    return np.asarray(precisions * max(shrinkage, 1e-6), dtype=np.float64)


def penalised_fit(
    design: Design, y: Floats, w: Floats, *, offset: Floats, centre: Floats, penalty: Floats
) -> Floats:
    """Minimise sum w * log-loss(y, offset + design(c)) + 1/2 sum penalty * (c - centre)^2; returns c [P].

    `y` (class numbers) and `w` [n], `offset` log-odds [n, K-1], `centre` and `penalty` [P]. A positive
    penalty keeps the answer finite for separable, single-class or empty data; where it is 0, the data must
    decide. Newton's method with step halving, its equations solved by conjugate gradients: the answer
    depends on no optimiser's library and no BLAS.
    """
    problem = _Problem(design, _indicators(y, offset.shape[1]), w, offset.T, centre, penalty)
    c, loss = centre.astype(np.float64), problem.loss(centre)
    for _ in range(_NEWTON_STEPS):
        previous = loss
        c, loss = _descend(problem, c, problem.newton_step(c), loss)
        if previous - loss <= _STEP_TOLERANCE * (1.0 + abs(previous)):
            break
    return c


def _indicators(y: Floats, others: int) -> Floats:
    """1 where a row is of the class [K-1, n], the first class left out."""
    return np.asarray(y[None, :] == np.arange(1, others + 1)[:, None], dtype=np.float64)


@dataclass(frozen=True)
class _Problem:
    design: Design
    hits: Floats  # [K-1, n]
    w: Floats
    offset: Floats  # [K-1, n]
    centre: Floats
    penalty: Floats

    def loss(self, c: Floats) -> float:
        z = self.offset + self.design.forward(c)
        top = np.maximum(z.max(axis=0), 0.0)
        total = top + np.log(np.exp(-top) + np.exp(z - top).sum(axis=0))
        data = float(np.sum(self.w * (total - (self.hits * z).sum(axis=0))))
        return data + 0.5 * float(np.sum(self.penalty * (c - self.centre) ** 2))

    def newton_step(self, c: Floats) -> Floats:
        p = softmax((self.offset + self.design.forward(c)).T).T[1:]  # [K-1, n]
        gradient = self.design.backward(self.w * (p - self.hits)) + self.penalty * (c - self.centre)

        def curve(v: Floats) -> Floats:
            """The Hessian times `v`."""
            u = self.design.forward(v)
            bent = self.w * p * (u - (p * u).sum(axis=0))
            return self.design.backward(bent) + self.penalty * v

        return _conjugate_gradients(curve, gradient)


def _conjugate_gradients(curve: Callable[[Floats], Floats], target: Floats) -> Floats:
    """x with curve(x) = target, `curve` linear, symmetric and not negative (Hestenes & Stiefel 1952)."""
    x, rest = np.zeros_like(target), target.copy()
    size = float(np.sum(rest * rest))
    enough, way = size * _SOLVE_TOLERANCE**2, rest
    for _ in range(3 * len(target)):
        bent = curve(way)
        bend = float(np.sum(way * bent))
        if size <= enough or bend <= 0.0:
            break
        x, rest = x + (size / bend) * way, rest - (size / bend) * bent
        size, before = float(np.sum(rest * rest)), size
        way = rest + (size / before) * way
    return x


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

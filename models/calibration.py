"""Calibration of the ensemble on a later, purged block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import ArtifactError, ConfigurationError, DataError
from models.logits import Floats, SharedDesign, penalised_fit, prior_precisions, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["sigmoid", "isotonic", "temperature"]
KINDS = ("sigmoid", "isotonic", "temperature")
_PLATEAU_ROWS = 20.0


@dataclass(frozen=True)
class Steps:
    """Linear interpolation of `y` over the strictly increasing knots `x`, constant outside them."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, at: Floats) -> Floats:
        """Values [n] at `at` [n]."""
        return np.asarray(np.interp(at, self.x, self.y), dtype=np.float64)


@dataclass(frozen=True)
class Calibrator:
    """A map from the combination's log-odds z [n, K-1] to class probabilities.

    `sigmoid`: softmax(a * z + b), one slope and an intercept per class (Platt 1999). `temperature`:
    softmax(a * z), a = 1 / T (Guo et al. 2017). `isotonic`: q = softmax(z), then `steps`: with two classes
    one map of P(last); with three a map per class, against the others, normalised (Zadrozny & Elkan 2002).
    """

    kind: Kind
    a: float = 1.0
    b: tuple[float, ...] = (0.0,)
    steps: tuple[Steps, ...] = ()

    def predict(self, z: Floats) -> Floats:
        """Calibrated class probabilities [n, K] of log-odds `z` [n, K-1]."""
        if self.kind != "isotonic":
            return softmax(self.a * z + np.array(self.b))
        q = softmax(z)
        if len(self.steps) == 1:
            up = self.steps[0](q[:, 1])
            return np.column_stack([1.0 - up, up])
        raised = np.column_stack([step(q[:, k]) for k, step in enumerate(self.steps)])
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        steps = [{"x": list(s.x), "y": list(s.y)} for s in self.steps]
        return {"kind": self.kind, "a": self.a, "b": list(self.b), "steps": steps}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; ArtifactError when a field is missing."""
        try:
            steps = tuple(Steps(tuple(s["x"]), tuple(s["y"])) for s in stored["steps"])
            return cls(stored["kind"], float(stored["a"]), tuple(map(float, stored["b"])), steps)
        except (KeyError, TypeError, ValueError) as fault:
            raise ArtifactError(f"calibrator: unreadable ({fault!r}); fit it again") from fault


def fit_calibrator(kind: Kind, z: Floats, y: Floats, w: Floats, *, shrinkage: float = 1.0) -> Calibrator:
    """Fit on the log-odds `z` [n, K-1], outcomes `y` (class numbers) and weights `w` [n] of one block.

    `z` must be out of sample, and later than everything that produced it, or calibration flatters.
    One block is a few hundred rows of faint signal, on which plain Platt scaling costs more log-loss
    than it wins. So `sigmoid` and `temperature` are pulled to the identity as the stack is to its prior,
    `shrinkage` times as hard; `isotonic` asks each plateau for so many times more rows, and wants some
    thousand.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"ensemble.calibration = {kind!r}: must be {', '.join(KINDS)}")
    if len(z) == 0:
        raise DataError("calibration: 0 rows, at least 1 is needed; lengthen the test blocks")
    if kind == "isotonic":
        return Calibrator("isotonic", b=(0.0,) * z.shape[1], steps=_fit_steps(z, y, w, shrinkage))
    return _fit_scale(kind, z, y, w, shrinkage)


def _fit_scale(kind: Kind, z: Floats, y: Floats, w: Floats, shrinkage: float) -> Calibrator:
    n, others = z.shape
    free = others if kind == "sigmoid" else 0
    steps = np.broadcast_to(np.eye(others)[:free, :, None], (free, others, n))
    fitted = penalised_fit(
        SharedDesign(np.concatenate([z.T[None], steps])),
        y,
        w,
        offset=np.zeros_like(z),
        centre=np.append(1.0, np.zeros(free)),
        penalty=prior_precisions(shrinkage, 1, free),
    )
    # A falling map would turn every signal round on the evidence of one block.
    b = tuple(fitted[1:].tolist()) or (0.0,) * others
    return Calibrator(kind, a=max(float(fitted[0]), 0.0), b=b)


def _fit_steps(z: Floats, y: Floats, w: Floats, shrinkage: float) -> tuple[Steps, ...]:
    """One map with two classes, since the other is its mirror; else one per class."""
    q = softmax(z)
    classes = [1] if q.shape[1] == 2 else range(q.shape[1])
    return tuple(
        _fit_isotonic(q[:, k], (y == k).astype(np.float64), w, shrinkage, q.shape[1]) for k in classes
    )


def _fit_isotonic(q: Floats, hit: Floats, w: Floats, shrinkage: float, classes: int) -> Steps:
    """Isotonic plateaus, joined until each holds enough rows, each with one row of every class added.

    A plateau of two or three rows at an edge would else answer nearly 0 or 1, and so would every outlier;
    and since no level is 0, three of them never sum to 0.
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(q, hit, sample_weight=w)
    _, plateau = np.unique(fitted.predict(q), return_inverse=True)
    group = _joined(np.bincount(plateau, weights=w).tolist(), _PLATEAU_ROWS * shrinkage)[plateau]
    rows = np.bincount(group, weights=w)
    levels = np.maximum.accumulate((np.bincount(group, weights=w * hit) + 1.0) / (rows + classes))
    knots: dict[float, float] = {}
    for number, level in enumerate(levels.tolist()):
        inside = q[group == number]
        knots |= {float(inside.min()): level, float(inside.max()): level}
    return Steps(tuple(knots), tuple(knots.values()))


def _joined(rows: list[float], least: float) -> NDArray[np.int64]:
    """Number of the group of each plateau: neighbours are joined until a group holds `least` rows."""
    group, held, number = np.zeros(len(rows), dtype=np.int64), 0.0, 0
    for place, some in enumerate(rows):
        group[place], held = number, held + some
        if held >= least:
            number, held = number + 1, 0.0
    # what is left over at the end is too small to stand alone
    return np.minimum(group, max(number - 1, 0)) if held > 0.0 else group

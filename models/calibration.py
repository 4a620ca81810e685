"""Calibration of the ensemble on a later, purged block."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import ArtifactError, ConfigurationError, DataError
from models.logits import Floats, penalised_fit, prior_precisions, sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["sigmoid", "isotonic"]
_PLATEAU_ROWS = 20.0


@dataclass(frozen=True)
class Calibrator:
    """A monotone map from the stack's log-odds to a probability.

    `sigmoid`: p = sigmoid(a * z + b) (Platt 1999). `isotonic`: q = sigmoid(z), then linear
    interpolation of `y` over the strictly increasing knots `x`, constant outside them.
    """

    kind: Kind
    a: float = 1.0
    b: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def predict(self, z: Floats) -> Floats:
        """Calibrated probabilities [n] of the stack's log-odds `z` [n]."""
        if self.kind == "sigmoid":
            return sigmoid(self.a * z + self.b)
        return np.asarray(np.interp(sigmoid(z), self.x, self.y), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain numbers and lists; floats survive JSON exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; ArtifactError when a field is missing."""
        try:
            return cls(
                kind=stored["kind"],
                a=float(stored["a"]),
                b=float(stored["b"]),
                x=tuple(stored["x"]),
                y=tuple(stored["y"]),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise ArtifactError(f"calibrator: unreadable ({fault!r}); fit it again") from fault


def fit_calibrator(kind: Kind, z: Floats, y: Floats, w: Floats, *, shrinkage: float = 1.0) -> Calibrator:
    """Fit on the log-odds `z`, outcomes `y` (0 or 1) and weights `w` of one block, each [n].

    `z` must be out of sample, and later than everything that produced it, or calibration flatters.
    One block is a few hundred rows of faint signal, on which plain Platt scaling costs more log-loss
    than it wins. So `sigmoid` is pulled to the identity as the stack is to its prior, `shrinkage` times
    as hard; `isotonic` ignores `shrinkage` and wants some thousand rows.
    """
    if kind not in ("sigmoid", "isotonic"):
        raise ConfigurationError(f"ensemble.calibration = {kind!r}: must be sigmoid or isotonic")
    if len(z) == 0:
        raise DataError("calibration: 0 rows, at least 1 is needed; lengthen the test blocks")
    return _fit_sigmoid(z, y, w, shrinkage) if kind == "sigmoid" else _fit_isotonic(z, y, w, shrinkage)


def _fit_sigmoid(z: Floats, y: Floats, w: Floats, shrinkage: float) -> Calibrator:
    a, b = penalised_fit(
        np.column_stack([z, np.ones_like(z)]),
        y,
        w,
        offset=np.zeros_like(z),
        centre=np.array([1.0, 0.0]),
        penalty=prior_precisions(shrinkage, 1),
    )
    # A falling map would turn every signal round on the evidence of one block.
    return Calibrator("sigmoid", a=max(float(a), 0.0), b=float(b))


def _fit_isotonic(z: Floats, y: Floats, w: Floats, shrinkage: float) -> Calibrator:
    """Isotonic plateaus, joined until each holds enough rows, each with one hit and one miss added.

    A plateau of two or three rows at an edge would else answer nearly 0 or 1, and so would every outlier.
    """
    from sklearn.isotonic import IsotonicRegression

    q = sigmoid(z)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(q, y, sample_weight=w)
    _, plateau = np.unique(fitted.predict(q), return_inverse=True)
    group = _joined(np.bincount(plateau, weights=w).tolist(), _PLATEAU_ROWS * shrinkage)[plateau]
    rows = np.bincount(group, weights=w)
    levels = np.maximum.accumulate((np.bincount(group, weights=w * y) + 1.0) / (rows + 2.0))
    knots: dict[float, float] = {}
    for number, level in enumerate(levels.tolist()):
        inside = q[group == number]
        knots |= {float(inside.min()): level, float(inside.max()): level}
    return Calibrator("isotonic", x=tuple(knots), y=tuple(knots.values()))


def _joined(rows: list[float], least: float) -> NDArray[np.int64]:
    """Number of the group of each plateau: neighbours are joined until a group holds `least` rows."""
    group, held, number = np.zeros(len(rows), dtype=np.int64), 0.0, 0
    for place, some in enumerate(rows):
        group[place], held = number, held + some
        if held >= least:
            number, held = number + 1, 0.0
    # what is left over at the end is too small to stand alone
    return np.minimum(group, max(number - 1, 0)) if held > 0.0 else group

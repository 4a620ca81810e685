"""What the models predict, and how class probabilities become the one number of a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError

Floats = NDArray[np.float64]
Kind = Literal["direction", "barrier", "meta"]

PRIMARY_SIDE = "primary_side"
"""Name of the feature that holds the side of the primary signal: positive long, negative short, else none."""

CLASSES: dict[Kind, tuple[str, ...]] = {
    "direction": ("down", "up"),
    "barrier": ("down", "flat", "up"),
    "meta": ("wrong", "right"),
}
"""Class names in the order of the class numbers that labels hold."""


@dataclass(frozen=True)
class Target:
    """A kind of target. `column` is the feature that holds the primary side; None unless `kind` is meta."""

    kind: Kind = "direction"
    column: int | None = None

    @classmethod
    def of(cls, kind: Kind, features: Sequence[str]) -> Self:
        """The target of models of these features; DataError for a meta target without its primary signal."""
        if kind != "meta":
            return cls(kind)
        if PRIMARY_SIDE not in features:
            raise DataError(f"a meta target needs the feature {PRIMARY_SIDE}: set labels.primary")
        return cls(kind, list(features).index(PRIMARY_SIDE))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, first to last."""
        return CLASSES[self.kind]

    def side(self, x: NDArray[np.float32]) -> Floats | None:
        """Side of the primary signal at rows `x` [k, F] of features; None when there is no primary."""
        return None if self.column is None else x[:, self.column].astype(np.float64)

    def signal(self, probability: Floats, side: Floats | None = None) -> Floats:
        """P(up) as signals state it, [k], of class probabilities [k, K]; `side` [k] of the primary signal.

        direction: P(up). barrier: P(up) + P(flat) / 2, so that equal chances of profit and stop are a half.
        meta: the primary's side, sized by how far P(right) exceeds a half and never turned round: 0.5 where
        the primary has no side, or is more likely wrong than right.
        """
        if self.kind == "direction":
            return probability[:, 1]
        if self.kind == "barrier":
            return np.asarray(probability[:, 2] + 0.5 * probability[:, 1])
        if side is None:
            raise DataError("a meta target needs the side of the primary signal, and got none")
        sign = np.nan_to_num(np.sign(side), nan=0.0)
        return np.asarray(0.5 + sign * np.maximum(probability[:, 1] - 0.5, 0.0))


DIRECTION = Target()
"""Up or down over a horizon: what is predicted unless the labels say otherwise."""

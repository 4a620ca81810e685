"""Class probabilities as columns of out-of-fold frames.

A model's own name holds P(last class); with three classes `name.flat` holds the one between, named by its
class. P(first class) is what is left of 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from models.targets import Floats

FINAL = "probability"
"""The model name of the whole ensemble."""
RECALIBRATED = "recalibrated_rate"
"""The base rate combined and calibrated as the ensemble is: what the ensemble must beat."""
_OTHER = ("row", "fold", "path", "y", "w", "side", FINAL, "signal", "confidence")


def to_columns(name: str, probability: Floats, classes: Sequence[str]) -> dict[str, Floats]:
    """Columns of class probabilities [n, K]."""
    between = {f"{name}.{word}": probability[:, k] for k, word in enumerate(classes[1:-1], 1)}
    return {name: probability[:, -1], **between}


def from_columns(frame: pd.DataFrame, name: str, classes: Sequence[str]) -> Floats:
    """Class probabilities [n, K] of one model; the inverse of `to_columns` up to rounding."""
    held = [*(f"{name}.{word}" for word in classes[1:-1]), name]
    others = frame[held].to_numpy(dtype=np.float64)
    return np.column_stack([1.0 - others.sum(axis=1), others])


def model_names(frame: pd.DataFrame) -> list[str]:
    """The models whose probabilities a frame holds besides the ensemble's, in its order."""
    return [str(name) for name in frame.columns if name not in _OTHER and "." not in str(name)]

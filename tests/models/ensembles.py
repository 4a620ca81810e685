"""Small ensembles of any families, for the tests of what is made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.combination import Known
from models.dataset import Dataset
from models.ensemble import Ensemble, Recipe, fit_head
from models.families import FAMILIES

WINDOW = 8
Rows = np.ndarray[Any, np.dtype[np.int64]]


def fit_families(data: Dataset, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
    """Families by name; networks get random weights, larger than training would leave."""
    fitted: dict[str, Any] = {}
    for name in names:
        family = FAMILIES[name]
        params = {"max_epochs": 0} if family.sequence else {}
        fitted[name] = family.fit(data, rows, seed=1, window=WINDOW, params=params)
        if family.sequence:
            generator = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for tensor in fitted[name].network.parameters():
                    tensor.normal_(0.0, 0.3, generator=generator)
    return fitted


def build_ensemble(
    data: Dataset, rows: Rows, held_out: Rows, names: Sequence[str], recipe: Recipe
) -> Ensemble:
    """Families fitted on `rows`, the head on the halves of `held_out`."""
    fitted = fit_families(data, rows, names)
    base = np.stack([model.predict(data.x, held_out) for model in fitted.values()], axis=1)
    ones, half = np.ones(len(held_out)), len(held_out) // 2
    known = Known(held_out, base, data.y[held_out], ones, ones)
    head = fit_head(names, known[:half], known[half:], known, recipe)
    return Ensemble(fitted, head, data.target, data.names, WINDOW)

"""What a fitted model makes of its features on rows it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.errors import DataError
from models.dataset import windows
from models.families.base import weighted_log_loss
from models.logits import CLIP

if TYPE_CHECKING:
    import pandas as pd

    from models.dataset import Dataset, Features, Floats, Rows
    from models.families.base import Fitted

_BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Importance:
    """Importance of each feature [F] of one model on `rows` rows.

    log_loss: weighted, in nats, with nothing permuted. permutation: what permuting the feature adds to it,
    the mean over repeats; 0 for one the model does not use, below 0 when it misled. permutation_std: its
    population standard deviation over repeats. shap: weighted mean of |SHAP value|, in log-odds of the last
    class against the first; None for a model without SHAP values.

    Features that carry the same information share it, and each alone may then look dispensable.
    """

    names: tuple[str, ...]
    rows: int
    log_loss: float
    permutation: Floats
    permutation_std: Floats
    shap: Floats | None

    def to_frame(self) -> pd.DataFrame:
        """Columns feature, permutation (largest first), permutation_std, shap (NaN without any)."""
        import pandas as pd

        shap = np.full(len(self.names), np.nan) if self.shap is None else self.shap
        columns = {"permutation": self.permutation, "permutation_std": self.permutation_std, "shap": shap}
        table = pd.DataFrame({"feature": self.names, **columns})
        return table.sort_values("permutation", ascending=False, kind="stable", ignore_index=True)


def explain(fitted: Fitted, data: Dataset, rows: Rows, *, seed: int, repeats: int = 3) -> Importance:
    """Permutation importance and mean |SHAP| of each feature on out-of-sample `rows` (ascending).

    Rows that weigh nothing are left out. A permutation exchanges whole windows of one feature between rows:
    a model that reads T bars gets T neighbouring values that belong together, of another row than the
    rest, so what is broken is the link to the outcome and to other features, never the feature's own
    course. A model without a `window` reads one bar. Breiman 2001; Fisher, Rudin & Dominici 2019.

    Equal arguments give equal numbers. DataError: fewer than two rows that weigh anything.
    """
    rows = rows[data.w[rows] > 0.0]
    if len(rows) < 2:
        raise DataError(
            f"importance: {len(rows)} rows weigh anything, permuting needs 2: use a longer test block"
        )
    y, w = data.y[rows], data.w[rows]
    seen = np.ascontiguousarray(windows(data.x, rows, int(getattr(fitted, "window", 1))))  # [k, T, F]
    plain = _predict(fitted, seen[None])[0]
    base = weighted_log_loss(y, plain, w, CLIP)
    losses = np.full((len(data.names), repeats), base)
    used = np.setdiff1d(np.arange(len(data.names)), _unused(fitted, seen, plain, seed))
    for features, permuted in _permuted(seen, used, seed, repeats):
        found = [weighted_log_loss(y, p, w, CLIP) for p in _predict(fitted, permuted)]
        losses[features] = np.reshape(found, (len(features), repeats))
    increase = losses - base
    values = fitted.contributions(data.x, rows)
    shap = None if values is None else np.average(np.abs(values), axis=0, weights=w)
    return Importance(data.names, len(rows), base, increase.mean(axis=1), increase.std(axis=1), shap)


def _unused(fitted: Fitted, seen: Features, plain: Floats, seed: int) -> Rows:
    """Features that the model gives no importance, if permuting all of them changes no bit of any answer."""
    weights = fitted.importance()
    idle = np.flatnonzero(weights == 0.0) if weights is not None else np.empty(0, dtype=np.int64)
    shuffled = seen.copy()
    shuffled[:, :, idle] = np.random.default_rng(seed).permutation(seen)[:, :, idle]
    return idle if np.array_equal(_predict(fitted, shuffled[None])[0], plain) else idle[:0]


def _permuted(seen: Features, used: Rows, seed: int, repeats: int) -> Iterator[tuple[Rows, Features]]:
    """Batches of features [f], each with its windows permuted `repeats` times: [f * repeats, k, T, F].

    A feature's permutations depend on its own number and `seed`, not on which others are used.
    """
    size = max(1, _BATCH_BYTES // (repeats * seen.nbytes))
    for start in range(0, len(used), size):
        features = used[start : start + size]
        batch = np.broadcast_to(seen, (len(features), repeats, *seen.shape)).copy()
        for place, feature in enumerate(features):
            rng = np.random.default_rng((seed, int(feature)))
            for repeat in range(repeats):
                batch[place, repeat, :, :, feature] = rng.permutation(seen[:, :, feature])
        yield features, batch.reshape(-1, *seen.shape)


def _predict(fitted: Fitted, batch: Features) -> Floats:
    """P(class) [m, k, K] of windows [m, k, T, F], laid end to end so that each prediction reads its own."""
    copies, k, length, width = batch.shape
    ends = np.arange(length - 1, copies * k * length, length)
    return fitted.predict(batch.reshape(-1, width), ends).reshape(copies, k, -1)

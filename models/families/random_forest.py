"""Random forest: the average of trees grown on resampled rows, with shrunken leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import RandomForestClassifier

from models.families.base import (
    FamilyParams,
    Options,
    SearchSpace,
    Span,
    check_classes,
    class_balance,
    class_weights,
    read_arrays,
    write_arrays,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of the random forest; the names are scikit-learn's where it has one."""

    n_estimators: int = Field(300, ge=1, description="trees")
    max_depth: int = Field(4, ge=1, le=30, description="levels per tree")
    min_samples_leaf: int = Field(50, ge=1, description="drawn rows per leaf, at least")
    max_features: Literal["sqrt"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "sqrt", description="features each split may use: 'sqrt' of their number, or a share"
    )
    max_samples: float = Field(
        0.6, gt=0, le=1, description="rows each tree draws by weight, as a share of the sum of weights"
    )
    prior_rows: float = Field(100.0, gt=0, description="rows of the overall rates that each leaf is given")


SPACE: SearchSpace = {
    "max_depth": Span(1, 8),
    "min_samples_leaf": Span(20, 200, log=True),
    "max_features": Options(("sqrt", 0.05, 0.2, 0.4)),
    "max_samples": Span(0.3, 1.0),
    "prior_rows": Span(10.0, 1000.0, log=True),
}


@dataclass(frozen=True)
class RandomForest:
    """P(class) is the mean over trees of the rates in the leaf that a row falls into.

    All trees in one set of arrays of their nodes [m]: a row goes to `left` when its `feature` <= `threshold`,
    a missing value when `missing_left`, else to `right`. A leaf is its own left and right. `roots` [T],
    `rates` [m, K], `gains` [F].
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    rates: Floats
    gains: Floats

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]."""
        block, total = x[rows], np.zeros((len(rows), self.rates.shape[1]))
        for root in self.roots:
            total += self.rates[self._leaves(root, block)]
        return total / len(self.roots)

    def _leaves(self, root: int, block: Features) -> NDArray[np.int32]:
        """The leaf of each row of `block` [k, F] in one tree [k]."""
        line = np.arange(len(block))
        node = np.full(len(block), root, dtype=np.int32)
        while True:
            value = block[line, self.feature[node]]
            goes_left = (value <= self.threshold[node]) | (np.isnan(value) & self.missing_left[node])
            below = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(below, node):
                return node
            node = below

    def importance(self) -> Floats:
        """Decrease of Gini impurity by the splits on each feature [F], as a share of the whole."""
        return self.gains

    def contributions(self, x: Features, rows: Rows) -> None:
        """None: trees that add up probabilities have no exact split of the log-odds."""

    def save(self, directory: Path) -> None:
        """Write the arrays as `model.npz`."""
        write_arrays(directory / "model.npz", vars(self))


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> RandomForest:
    """Grow all trees on `rows`: more of them do not overfit, so there is nothing to stop early.

    Each tree draws about as many rows as are independent (López de Prado 2018, ch. 6): with weights of
    uniqueness that is their sum.
    """
    check_classes(data, rows)
    y, classes = data.y[rows], len(data.classes)
    w, _ = class_balance(y, data.w[rows], params.class_weight, classes)
    own = params.model_dump(exclude={"class_weight", "prior_rows", "max_samples"})
    draws = max(1, round(params.max_samples * float(np.sum(w))))
    forest = RandomForestClassifier(**own, max_samples=draws, random_state=seed, n_jobs=1)
    forest.fit(data.x[rows], y.astype(np.int64), sample_weight=w)
    # Leaves count the rows' own weights: balanced ones shape the trees alone, and rates stay calibrated.
    weights = class_weights(y, data.w[rows], classes)
    undone = weights / class_weights(y, w, classes)
    prior = params.prior_rows * weights / np.sum(weights)
    grown = [estimator.tree_ for estimator in forest.estimators_]
    masses = np.vstack([_shares(tree) for tree in grown]) * np.sum(w) * undone + prior
    return _join(grown, masses / masses.sum(axis=1, keepdims=True), forest.feature_importances_)


def load(directory: Path) -> RandomForest:
    """The inverse of `RandomForest.save`."""
    return RandomForest(**read_arrays(directory / "model.npz"))


def _shares(tree: Any) -> Floats:
    """Share of all drawn rows in each node of a tree, by class [m, K]."""
    drawn = tree.weighted_n_node_samples
    return np.asarray(tree.value[:, 0, :] * (drawn / drawn[0])[:, None])


def _join(grown: Sequence[Any], rates: Floats, gains: Floats) -> RandomForest:
    """All trees of scikit-learn in one set of arrays, leaves as their own children."""
    counts = np.array([tree.node_count for tree in grown])
    roots = np.cumsum(counts) - counts
    left, right = (
        np.concatenate(
            [_own_children(getattr(tree, side), root) for tree, root in zip(grown, roots, strict=True)]
        )
        for side in ("children_left", "children_right")
    )
    return RandomForest(
        roots=roots.astype(np.int32),
        feature=np.maximum(np.concatenate([tree.feature for tree in grown]), 0).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in grown]),
        left=left,
        right=right,
        missing_left=np.concatenate([tree.missing_go_to_left for tree in grown]).astype(np.bool_),
        rates=rates,
        gains=np.asarray(gains, dtype=np.float64),
    )


def _own_children(children: NDArray[np.int64], root: int) -> NDArray[np.int32]:
    """Children counted over all trees, a leaf its own child."""
    nodes = np.arange(len(children))
    return (np.where(children < 0, nodes, children) + root).astype(np.int32)

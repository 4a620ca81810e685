"""Tree ensembles as one ONNX `TreeEnsemble` node, in double, branch for branch as trained.

The features arrive as float32 and are widened to double before the node, so that a row on a threshold takes
the branch it took in training: comparing in float32 would need the thresholds rounded down, and would still
sum the leaves in float32 (1e-5 on the margin of 500 trees, where double is exact).
"""

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ArtifactError
from models.graph import Graph
from models.link_graph import Link, Part

_BRANCH_LEQ, _SUM, _NO_TRANSFORM = 0, 1, 0
_LIGHTGBM_ZERO = float(np.float32(1e-35))

Split = tuple[int, float, bool]
"""Feature, threshold, and whether a missing value counts as <= threshold."""


@dataclass
class Forest:
    """Binary trees over float64 features, flattened; a row goes to `true` when feature <= threshold.

    `true` and `false` index a leaf where `true_is_leaf`/`false_is_leaf` is 1, else a node; `missing_true`
    says where NaN goes. Every leaf counts for one of the targets, total = sum of its leaves + bias; the
    targets are what `link` says of a Part.
    """

    link: Link
    targets: int
    bias: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    true_is_leaf: list[int] = field(default_factory=list)
    false_is_leaf: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bias = self.bias or [0.0] * self.targets

    def add_tree(
        self, target: int, top: Any, read: Callable[[Any], "float | tuple[Split, Any, Any]"]
    ) -> None:
        """Append a tree that counts for `target`.

        `read` gives the value of a leaf, or the split of a node with what is below it where the split holds
        and where it does not; `top` is where it begins.
        """
        reference, is_leaf = self._add(target, top, read)
        if is_leaf:
            self.bias[target] += self.leaves.pop()
            self.leaf_targets.pop()
        else:
            self.roots.append(reference)

    def _add(self, target: int, at: Any, read: Callable[[Any], Any]) -> tuple[int, int]:
        """Append a sub-tree, depth first; returns (index, is a leaf), the reference its parent keeps."""
        found = read(at)
        if not isinstance(found, tuple):
            self.leaves.append(float(found))
            self.leaf_targets.append(target)
            return len(self.leaves) - 1, 1
        (feature, threshold, missing_true), below, above = found
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.missing_true.append(int(missing_true))
        for column in (self.true, self.false, self.true_is_leaf, self.false_is_leaf):
            column.append(0)
        index = len(self.feature) - 1
        self.true[index], self.true_is_leaf[index] = self._add(target, below, read)
        self.false[index], self.false_is_leaf[index] = self._add(target, above, read)
        return index, 0

    def write(self, graph: Graph, rows: str) -> Part:
        """Append one node on `rows`, double [N, F]."""
        self._plant()
        total = graph.node(
            "TreeEnsemble",
            [rows],
            domain="ai.onnx.ml",
            n_targets=self.targets,
            aggregate_function=_SUM,
            post_transform=_NO_TRANSFORM,
            tree_roots=self.roots,
            nodes_modes=graph.tensor(np.full(len(self.feature), _BRANCH_LEQ, np.uint8)),
            nodes_splits=graph.tensor(np.array(self.threshold, np.float64)),
            nodes_featureids=self.feature,
            nodes_truenodeids=self.true,
            nodes_falsenodeids=self.false,
            nodes_trueleafs=self.true_is_leaf,
            nodes_falseleafs=self.false_is_leaf,
            nodes_missing_value_tracks_true=self.missing_true,
            leaf_weights=graph.tensor(np.array(self.leaves, np.float64)),
            leaf_targetids=self.leaf_targets,
        )
        return Part(total, self.link)

    def _plant(self) -> None:
        """Turn the bias into trees whose leaves are equal: the node adds up nothing else, nor no tree."""
        for target, bias in enumerate(self.bias):
            if bias or not self.roots:
                self.add_tree(target, None, partial(_read_stump, bias))
            self.bias[target] = 0.0


def _read_stump(leaf: float, at: float | None) -> float | tuple[Split, Any, Any]:
    return ((0, 0.0, False), leaf, leaf) if at is None else at


def from_lightgbm(booster: Any) -> Forest:
    """A LightGBM classifier at its best iteration; ArtifactError for what the node cannot hold."""
    best = booster.best_iteration
    dump = booster.dump_model(num_iteration=best if best > 0 else None)
    objective = re.fullmatch(r"binary sigmoid:([0-9.e+-]+)|multiclass num_class:[0-9]+", dump["objective"])
    if objective is None or dump["average_output"]:
        raise ArtifactError(
            f"LightGBM objective {dump['objective']!r} cannot be exported: only boosting of classes is, "
            "train with objective=binary or multiclass"
        )
    targets, scale = dump["num_tree_per_iteration"], float(objective[1] or 1.0)
    forest, read = Forest("margins" if targets > 1 else "log_odds", targets), partial(_read_lightgbm, scale)
    for number, tree in enumerate(dump["tree_info"]):
        forest.add_tree(number % targets, tree["tree_structure"], read)
    return forest


def _read_lightgbm(scale: float, node: Mapping[str, Any]) -> float | tuple[Split, Any, Any]:
    if "leaf_value" in node:
        return scale * float(node["leaf_value"])
    if node["decision_type"] != "<=":
        raise ArtifactError(
            f"LightGBM split {node['decision_type']!r} on feature {node['split_feature']} cannot be "
            "exported: only numeric splits are; do not declare categorical features"
        )
    threshold = node["threshold"]
    if threshold == -_LIGHTGBM_ZERO:
        # LightGBM reads values within this bound as 0, the bound included: it is not <= the threshold.
        threshold = float(np.nextafter(threshold, -1.0))
    split = (node["split_feature"], threshold, _lightgbm_missing_left(node))
    return split, node["left_child"], node["right_child"]


def _lightgbm_missing_left(node: Mapping[str, Any]) -> bool:
    """Where LightGBM sends NaN: the trained default, or with zero when training saw no missing value."""
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    if node["missing_type"] == "None":
        return bool(node["threshold"] >= 0.0)
    raise ArtifactError("LightGBM zero_as_missing=true cannot be exported: leave it false")


def from_catboost(model: Any) -> Forest:
    """A CatBoost classifier of oblivious trees; ArtifactError for categorical or text features."""
    saved = _catboost_json(model)
    scale, bias = saved["scale_and_bias"]
    if "oblivious_trees" not in saved:
        raise ArtifactError(
            "CatBoost trees that are not oblivious cannot be exported: use grow_policy=SymmetricTree"
        )
    forest = Forest("margins" if len(bias) > 1 else "log_odds", len(bias), list(map(float, bias)))
    floats = saved["features_info"]["float_features"]
    for tree in saved["oblivious_trees"]:
        splits = tree["splits"] or []
        if any(split["split_type"] != "FloatFeature" for split in splits):
            raise ArtifactError("CatBoost categorical splits cannot be exported: pass numeric features only")
        rules = [_read_catboost(floats[split["float_feature_index"]], split["border"]) for split in splits]
        for target in range(forest.targets):
            leaves = [float(scale) * leaf for leaf in tree["leaf_values"][target :: forest.targets]]
            _add_oblivious(forest, target, rules, leaves)
    return forest


def _read_catboost(feature: Mapping[str, Any], border: float) -> Split:
    missing_below = feature["nan_value_treatment"] != "AsTrue"
    return feature["flat_feature_index"], float(np.float32(border)), missing_below


def _catboost_json(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return saved


def _add_oblivious(forest: Forest, target: int, rules: Sequence[Split], leaves: Sequence[float]) -> None:
    """Unfold an oblivious tree from its last split: bit k of the leaf is set when split k is exceeded."""

    def read(at: tuple[int, int]) -> float | tuple[Split, Any, Any]:
        left, leaf = at
        if left == 0:
            return leaves[leaf]
        return rules[left - 1], (left - 1, leaf), (left - 1, leaf | (1 << (left - 1)))

    forest.add_tree(target, (len(rules), 0), read)


def from_xgboost(booster: Any) -> Forest:
    """An XGBoost classifier of numeric features; ArtifactError for what the node cannot hold."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if kind != "gbtree" or objective not in ("binary:logistic", "multi:softprob"):
        raise ArtifactError(
            f"XGBoost {kind!r} of {objective!r} cannot be exported: only 'gbtree' of binary:logistic or "
            "multi:softprob is"
        )
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float64)
    # The base score is a probability when there are two classes, else a margin for each.
    bias = np.log(base / (1.0 - base)) if len(base) == 1 else base
    forest = Forest("margins" if len(base) > 1 else "log_odds", len(base), bias.tolist())
    model = learner["gradient_booster"]["model"]
    for target, tree in zip(model["tree_info"], model["trees"], strict=True):
        if any(tree["split_type"]):
            raise ArtifactError("XGBoost categorical splits cannot be exported: pass numeric features only")
        forest.add_tree(target, 0, partial(_read_xgboost, tree))
    return forest


def _read_xgboost(tree: Mapping[str, Any], at: int) -> float | tuple[Split, Any, Any]:
    below, value = tree["left_children"][at], float(np.float32(tree["split_conditions"][at]))
    if below < 0:
        return value
    # XGBoost goes left below the threshold, the node up to it and including it.
    just_below = float(np.nextafter(value, -np.inf))
    return (
        (tree["split_indices"][at], just_below, bool(tree["default_left"][at])),
        below,
        tree["right_children"][at],
    )


def from_forest(model: Any) -> Forest:
    """A `random_forest`: the mean over trees of the rates in their leaves."""
    classes = model.rates.shape[1]
    forest = Forest("probabilities", classes - 1)
    for root in model.roots.tolist():
        for target in range(classes - 1):
            forest.add_tree(target, root, partial(_read_forest, model, target + 1))
    return forest


def _read_forest(model: Any, klass: int, at: int) -> float | tuple[Split, Any, Any]:
    if model.left[at] == at:
        return float(model.rates[at, klass]) / len(model.roots)
    split = (int(model.feature[at]), float(model.threshold[at]), bool(model.missing_left[at]))
    return split, int(model.left[at]), int(model.right[at])

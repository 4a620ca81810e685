"""Tree ensembles as one ONNX `TreeEnsemble` node, in double, branch for branch as trained.

The features arrive as float32 and are widened to double before the node, so that a row on a threshold takes
the branch it took in training: comparing in float32 would need the thresholds rounded down, and would still
sum the leaves in float32 (1e-5 on the margin of 500 trees, where double is exact).
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ArtifactError
from models.graph import Graph

_BRANCH_LEQ, _SUM, _NO_TRANSFORM = 0, 1, 0
_LIGHTGBM_ZERO = float(np.float32(1e-35))


@dataclass
class Forest:
    """Binary trees over float64 features, flattened; a row goes to `true` when feature <= threshold.

    `true` and `false` index a leaf where `true_is_leaf`/`false_is_leaf` is 1, else a node;
    `missing_true` says where NaN goes. The margin is scale * (sum of leaves) + bias; p(up) = sigmoid(margin).
    """

    features: int
    scale: float = 1.0
    bias: float = 0.0
    roots: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    true_is_leaf: list[int] = field(default_factory=list)
    false_is_leaf: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)

    def add_node(self, feature: int, threshold: float, missing_true: bool) -> int:
        """Append a split whose children are linked later; returns its index."""
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.missing_true.append(int(missing_true))
        for column in (self.true, self.false, self.true_is_leaf, self.false_is_leaf):
            column.append(0)
        return len(self.feature) - 1

    def add_leaf(self, value: float) -> tuple[int, int]:
        """Append a leaf; returns (index, 1), the reference a parent keeps."""
        self.leaves.append(value)
        return len(self.leaves) - 1, 1

    def link(self, node: int, true: tuple[int, int], false: tuple[int, int]) -> None:
        """Give `node` its two children, each (index, is a leaf)."""
        self.true[node], self.true_is_leaf[node] = true
        self.false[node], self.false_is_leaf[node] = false

    def write(self, graph: Graph, rows: str) -> str:
        """Append nodes that turn `rows`, double [N, F], into p(up), double [N, 1]; returns its name."""
        if not self.roots:
            self.roots.append(self.add_node(0, 0.0, False))
            self.link(self.roots[0], self.add_leaf(0.0), self.add_leaf(0.0))
        total = graph.node(
            "TreeEnsemble",
            [rows],
            domain="ai.onnx.ml",
            n_targets=1,
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
            leaf_targetids=[0] * len(self.leaves),
        )
        if self.scale != 1.0:
            total = graph.node("Mul", [total, graph.const(self.scale)])
        if self.bias != 0.0:
            total = graph.node("Add", [total, graph.const(self.bias)])
        return graph.node("Sigmoid", [total])


def from_lightgbm(booster: Any) -> Forest:
    """A binary LightGBM booster at its best iteration; ArtifactError for what the node cannot hold."""
    best = booster.best_iteration
    dump = booster.dump_model(num_iteration=best if best > 0 else None)
    objective = re.fullmatch(r"binary sigmoid:([0-9.e+-]+)", dump["objective"])
    if objective is None or dump["average_output"]:
        raise ArtifactError(
            f"LightGBM objective {dump['objective']!r} cannot be exported: only 'binary' boosting is, "
            "train with objective=binary"
        )
    forest = Forest(features=dump["max_feature_idx"] + 1, scale=float(objective[1]))
    for tree in dump["tree_info"]:
        root = tree["tree_structure"]
        if "leaf_value" in root:
            forest.bias += forest.scale * root["leaf_value"]
        else:
            forest.roots.append(_lightgbm_node(forest, root)[0])
    return forest


def _lightgbm_node(forest: Forest, node: Mapping[str, Any]) -> tuple[int, int]:
    """Append a sub-tree, depth first; returns the reference of its top."""
    if "leaf_value" in node:
        return forest.add_leaf(node["leaf_value"])
    if node["decision_type"] != "<=":
        raise ArtifactError(
            f"LightGBM split {node['decision_type']!r} on feature {node['split_feature']} cannot be "
            "exported: only numeric splits are; do not declare categorical features"
        )
    threshold = node["threshold"]
    if threshold == -_LIGHTGBM_ZERO:
        # LightGBM reads values within this bound as 0, the bound included: it is not <= the threshold.
        threshold = float(np.nextafter(threshold, -1.0))
    index = forest.add_node(node["split_feature"], threshold, _lightgbm_missing_left(node))
    forest.link(
        index, _lightgbm_node(forest, node["left_child"]), _lightgbm_node(forest, node["right_child"])
    )
    return index, 0


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
    floats = saved["features_info"]["float_features"]
    scale, (bias,) = saved["scale_and_bias"]
    if "oblivious_trees" not in saved:
        raise ArtifactError(
            "CatBoost trees that are not oblivious cannot be exported: use grow_policy=SymmetricTree"
        )
    forest = Forest(features=len(floats), scale=float(scale), bias=float(bias))
    nan_above = [f["nan_value_treatment"] == "AsTrue" for f in floats]
    flat = [f["flat_feature_index"] for f in floats]
    for tree in saved["oblivious_trees"]:
        splits = tree["splits"] or []
        if any(split["split_type"] != "FloatFeature" for split in splits):
            raise ArtifactError("CatBoost categorical splits cannot be exported: pass numeric features only")
        if not splits:
            forest.bias += forest.scale * tree["leaf_values"][0]
            continue
        rules = [
            (
                flat[s["float_feature_index"]],
                float(np.float32(s["border"])),
                not nan_above[s["float_feature_index"]],
            )
            for s in splits
        ]
        forest.roots.append(_oblivious(forest, rules, tree["leaf_values"], 0)[0])
    return forest


def _catboost_json(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return saved


def _oblivious(
    forest: Forest, rules: Sequence[tuple[int, float, bool]], leaves: Sequence[float], leaf: int
) -> tuple[int, int]:
    """Unfold an oblivious tree from its last split: bit k of the leaf is set when split k is exceeded."""
    if not rules:
        return forest.add_leaf(leaves[leaf])
    *rest, (feature, border, missing_true) = rules
    index = forest.add_node(feature, border, missing_true)
    below = _oblivious(forest, rest, leaves, leaf)
    above = _oblivious(forest, rest, leaves, leaf | (1 << len(rest)))
    forest.link(index, below, above)
    return index, 0

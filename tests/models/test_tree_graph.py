"""The tree writer against the libraries that grew the trees."""

from types import SimpleNamespace
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime
import pytest
import xgboost as xgb
from catboost import CatBoostClassifier, Pool

from core.errors import ArtifactError
from models.graph import DOUBLE, FLOAT, Graph
from models.link_graph import link
from models.tree_graph import Forest, from_catboost, from_forest, from_lightgbm, from_xgboost

QUIET = {"verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True, "min_data_in_leaf": 5}
LIGHTGBM: dict[int, dict[str, Any]] = {
    2: {"objective": "binary"},
    3: {"objective": "multiclass", "num_class": 3},
}
XGBOOST: dict[int, dict[str, Any]] = {
    2: {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1},
    3: {"objective": "multi:softprob", "num_class": 3, "tree_method": "hist", "nthread": 1},
}


Array = np.ndarray[Any, Any]
every_target = pytest.mark.parametrize("classes", [2, 3])
every_filling = pytest.mark.parametrize("gaps", [True, False])


def run_forest(forest: Forest, x: Array) -> Array:
    """What the graph says of the classes after the first [N, K - 1]."""
    classes = forest.targets + (forest.link != "margins")
    graph = Graph("forest")
    rows = graph.node("Cast", [graph.input("x", FLOAT, ["N", x.shape[1]])], to=DOUBLE)
    bases = link(graph, [forest.write(graph, rows)], classes, rows)
    graph.output(bases.probabilities.each(graph, 1), "p", DOUBLE, ["N", classes - 1])
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def training_set(gaps: bool, classes: int = 2) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(size=(900, 6)), 1).astype(np.float32)
    drive = x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=900)
    y = np.digitize(drive, [0.0] if classes == 2 else [-0.9, 0.4])
    if gaps:
        x[:, 1:][rng.random((900, 5)) < 0.1] = np.nan
    return x, y


def with_gaps(x: Array) -> Array:
    holes = np.random.default_rng(9).random(x.shape) < 0.1
    return np.where(holes, np.float32(np.nan), x)


def on_borders(x: Array, forest: Forest) -> Array:
    """Rows whose values are the float32 at, just below and just above the borders."""
    rows = []
    for feature, border in list(zip(forest.feature, forest.threshold, strict=True))[:300]:
        at = np.float32(border)
        for value in (at, np.nextafter(at, np.float32(-9e9)), np.nextafter(at, np.float32(9e9))):
            row = x[len(rows) % len(x)].copy()
            row[feature] = value
            rows.append(row)
    found = np.array(rows, dtype=np.float32)
    return found[(np.abs(found) < 1e6).all(axis=1) | np.isnan(found).any(axis=1)]


def hard_rows(x: Array, forest: Forest) -> Array:
    return np.concatenate([x, with_gaps(x), on_borders(x, forest)])


def after_first(p: Array) -> Array:
    return p[:, None] if p.ndim == 1 else p[:, 1:]


@every_target
@every_filling
@pytest.mark.parametrize("extra", [{}, {"sigmoid": 0.7}, {"boost_from_average": False}, {"num_leaves": 2}])
def test_lightgbm_branch_for_branch(gaps: bool, classes: int, extra: dict[str, Any]) -> None:
    x, y = training_set(gaps, classes)
    booster = lgb.train({**LIGHTGBM[classes], **QUIET, **extra}, lgb.Dataset(x, y), 40)
    forest = from_lightgbm(booster)
    rows = hard_rows(x, forest)
    native = after_first(booster.predict(rows))
    np.testing.assert_allclose(run_forest(forest, rows), native, rtol=0, atol=1e-12)


@every_target
@every_filling
@pytest.mark.parametrize("extra", [{}, {"depth": 1}, {"nan_mode": "Max"}, {"iterations": 1}])
def test_catboost_branch_for_branch(gaps: bool, classes: int, extra: dict[str, Any]) -> None:
    x, y = training_set(gaps, classes)
    settings = {"iterations": 40, "depth": 5, "random_seed": 1, "thread_count": 1, "verbose": False}
    model = CatBoostClassifier(**{**settings, **extra}, allow_writing_files=False).fit(x, y)
    forest = from_catboost(model)
    rows = hard_rows(x, forest)
    native = after_first(model.predict_proba(Pool(rows), thread_count=1))
    np.testing.assert_allclose(run_forest(forest, rows), native, rtol=0, atol=1e-12)


@every_target
@every_filling
@pytest.mark.parametrize("extra", [{}, {"max_depth": 1}, {"base_score": 0.3}, {"num_parallel_tree": 3}])
def test_xgboost_branch_for_branch(gaps: bool, classes: int, extra: dict[str, Any]) -> None:
    """To what XGBoost loses by adding up leaves in float32: one wrong branch would cost 1e-3 and more."""
    x, y = training_set(gaps, classes)
    booster = xgb.train({**XGBOOST[classes], **extra}, xgb.DMatrix(x, y, nthread=1), 40)
    forest = from_xgboost(booster)
    rows = hard_rows(x, forest)
    native = after_first(booster.predict(xgb.DMatrix(rows, nthread=1)))
    np.testing.assert_allclose(run_forest(forest, rows), native, rtol=0, atol=5e-7)


@every_target
def test_xgboost_stays_within_the_gate_with_many_steep_trees(classes: int) -> None:
    x, y = training_set(True, classes)
    steep = {**XGBOOST[classes], "learning_rate": 0.1, "reg_lambda": 0.0, "min_child_weight": 0.0}
    booster = xgb.train(steep, xgb.DMatrix(x, y, nthread=1), 500)
    native = after_first(booster.predict(xgb.DMatrix(x, nthread=1)))
    np.testing.assert_allclose(run_forest(from_xgboost(booster), x), native, rtol=0, atol=1e-6)


def small_forest(classes: int) -> Any:
    """Two trees: a stump that sends a missing value to the left, and a single leaf."""
    rates = np.random.default_rng(1).dirichlet(np.ones(classes), size=4)
    return SimpleNamespace(
        roots=np.array([0, 3]),
        feature=np.array([2, 0, 0, 0]),
        threshold=np.array([0.1, 0.0, 0.0, 0.0]),
        left=np.array([1, 1, 2, 3]),
        right=np.array([2, 1, 2, 3]),
        missing_left=np.array([True, False, False, False]),
        rates=rates,
    )


@every_target
def test_forests_average_the_rates_of_their_leaves(classes: int) -> None:
    model = small_forest(classes)
    # The float32 nearest to 0.1 lies above the threshold in double.
    values = [np.nan, -1.0, np.nextafter(np.float32(0.1), np.float32(0)), np.float32(0.1), 2.0]
    x = np.zeros((5, 6), dtype=np.float32)
    x[:, 2] = values
    leaf = model.rates[[1, 1, 1, 2, 2]]
    expected = (leaf + model.rates[3])[:, 1:] / 2.0
    np.testing.assert_allclose(run_forest(from_forest(model), x), expected, rtol=0, atol=1e-15)


@every_target
def test_boosters_that_never_split_are_constants(classes: int) -> None:
    x, y = training_set(gaps=False, classes=classes)
    settings = {**LIGHTGBM[classes], **QUIET, "min_data_in_leaf": 800}
    booster = lgb.train(settings, lgb.Dataset(x, y), 3)
    native = after_first(booster.predict(x))
    np.testing.assert_allclose(run_forest(from_lightgbm(booster), x), native, rtol=0, atol=1e-12)
    levels = xgb.train({**XGBOOST[classes], "min_child_weight": 1e6}, xgb.DMatrix(x, y, nthread=1), 3)
    native = after_first(levels.predict(xgb.DMatrix(x, nthread=1)))
    np.testing.assert_allclose(run_forest(from_xgboost(levels), x), native, rtol=0, atol=1e-7)


def test_only_the_trees_up_to_the_best_iteration_count() -> None:
    x, y = training_set(gaps=True)
    train = lgb.Dataset(x[:600], y[:600])
    stop = [lgb.early_stopping(3, verbose=False)]
    booster = lgb.train(
        {"objective": "binary", "learning_rate": 0.5, **QUIET},
        train,
        200,
        valid_sets=[lgb.Dataset(x[600:], y[600:], reference=train)],
        callbacks=stop,
        keep_training_booster=True,
    )
    assert booster.best_iteration < booster.current_iteration()
    forest = from_lightgbm(booster)
    assert len(forest.roots) <= booster.best_iteration
    np.testing.assert_allclose(run_forest(forest, x)[:, 0], booster.predict(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "regression"}, "objective=binary or multiclass"),
        ({"objective": "multiclassova", "num_class": 2}, "objective=binary or multiclass"),
        ({"objective": "binary", "zero_as_missing": True}, "zero_as_missing"),
        ({"objective": "binary", "categorical_feature": [0]}, "only numeric splits"),
    ],
)
def test_lightgbm_that_the_node_cannot_hold_is_refused(params: dict[str, Any], message: str) -> None:
    x, y = training_set(gaps=False)
    if "categorical_feature" in params:
        x[:, 0] = np.arange(900) % 7
        y = (x[:, 0] % 2 == 0).astype(int)
    data = lgb.Dataset(x, y, categorical_feature=params.pop("categorical_feature", "auto"))
    with pytest.raises(ArtifactError, match=message):
        from_lightgbm(lgb.train({**QUIET, **params}, data, 3))


def test_catboost_trees_that_are_not_oblivious_are_refused() -> None:
    x, y = training_set(gaps=False)
    model = CatBoostClassifier(
        iterations=3, grow_policy="Lossguide", thread_count=1, verbose=False, allow_writing_files=False
    ).fit(x, y)
    with pytest.raises(ArtifactError, match="SymmetricTree"):
        from_catboost(model)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "reg:squarederror"}, "binary:logistic"),
        ({"booster": "dart"}, "gbtree"),
        ({"categorical": True}, "categorical"),
    ],
)
def test_xgboost_that_the_node_cannot_hold_is_refused(params: dict[str, Any], message: str) -> None:
    x, _ = training_set(gaps=False)
    x[:, 0] = np.arange(900) % 7
    kinds = ["c" if params.pop("categorical", False) else "q", *"qqqqq"]
    data = xgb.DMatrix(x, x[:, 0] % 2 == 0, feature_types=kinds, enable_categorical=True, nthread=1)
    with pytest.raises(ArtifactError, match=message):
        from_xgboost(xgb.train({**XGBOOST[2], **params}, data, 3))

"""The tree writer against the libraries that grew the trees."""

from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime
import pytest
from catboost import CatBoostClassifier, Pool

from core.errors import ArtifactError
from models.graph import DOUBLE, FLOAT, Graph
from models.tree_graph import Forest, from_catboost, from_lightgbm

QUIET = {"verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True, "min_data_in_leaf": 5}


def run_forest(forest: Forest, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    graph = Graph("forest")
    rows = graph.node("Cast", [graph.input("x", FLOAT, ["N", x.shape[1]])], to=DOUBLE)
    graph.output(forest.write(graph, rows), "p", DOUBLE, ["N", 1])
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])[:, 0]


def training_set(gaps: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(size=(900, 6)), 1).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=900) > 0).astype(int)
    if gaps:
        x[:, 1:][rng.random((900, 5)) < 0.1] = np.nan
    return x, y


def with_gaps(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    holes = np.random.default_rng(9).random(x.shape) < 0.1
    return np.where(holes, np.float32(np.nan), x)


def on_borders(x: np.ndarray[Any, Any], borders: list[tuple[int, float]]) -> np.ndarray[Any, Any]:
    """Rows whose values are the float32 at, just below and just above every border."""
    rows = []
    for feature, border in borders:
        at = np.float32(border)
        for value in (at, np.nextafter(at, np.float32(-9e9)), np.nextafter(at, np.float32(9e9))):
            row = x[len(rows) % len(x)].copy()
            row[feature] = value
            rows.append(row)
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("extra", [{}, {"sigmoid": 0.7}, {"boost_from_average": False}, {"num_leaves": 2}])
def test_lightgbm_branch_for_branch(gaps: bool, extra: dict[str, Any]) -> None:
    x, y = training_set(gaps)
    booster = lgb.train({"objective": "binary", **QUIET, **extra}, lgb.Dataset(x, y), 40)
    forest = from_lightgbm(booster)
    borders = [(f, t) for f, t in zip(forest.feature, forest.threshold, strict=True) if abs(t) < 1e6]
    rows = np.concatenate([x, with_gaps(x), on_borders(x, borders[:300])])
    np.testing.assert_allclose(run_forest(forest, rows), booster.predict(rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("extra", [{}, {"depth": 1}, {"nan_mode": "Max"}, {"iterations": 1}])
def test_catboost_branch_for_branch(gaps: bool, extra: dict[str, Any]) -> None:
    x, y = training_set(gaps)
    settings = {"iterations": 40, "depth": 5, "random_seed": 1, "thread_count": 1, "verbose": False}
    model = CatBoostClassifier(**{**settings, **extra}, allow_writing_files=False).fit(x, y)
    forest = from_catboost(model)
    borders = list(zip(forest.feature, forest.threshold, strict=True))
    rows = np.concatenate([x, with_gaps(x), on_borders(x, borders[:300])])
    native = model.predict_proba(Pool(rows), thread_count=1)[:, 1]
    np.testing.assert_allclose(run_forest(forest, rows), native, rtol=0, atol=1e-12)


def test_a_booster_that_never_split_is_a_constant() -> None:
    x, y = training_set(gaps=False)
    booster = lgb.train({"objective": "binary", **QUIET, "min_data_in_leaf": 800}, lgb.Dataset(x, y), 3)
    np.testing.assert_allclose(run_forest(from_lightgbm(booster), x), booster.predict(x), atol=1e-12)


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
    np.testing.assert_allclose(run_forest(forest, x), booster.predict(x), atol=1e-12)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "regression"}, "objective=binary"),
        ({"objective": "binary", "zero_as_missing": True}, "zero_as_missing"),
        ({"objective": "binary", "categorical_feature": [0]}, "only numeric splits"),
    ],
)
def test_what_the_node_cannot_hold_is_refused(params: dict[str, Any], message: str) -> None:
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

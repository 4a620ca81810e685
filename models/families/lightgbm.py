"""LightGBM: gradient-boosted trees, grown leaf by leaf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
from pydantic import Field

from core.files import sha256_bytes
from models.families.base import (
    FamilyParams,
    SearchSpace,
    Span,
    against_first,
    class_balance,
    inner_split,
    read_sealed,
    write_sealed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of LightGBM; the names are the library's where it has one."""

    learning_rate: float = Field(0.01, gt=0, le=1, description="shrinkage of each tree")
    num_leaves: int = Field(4, ge=2, le=1024, description="leaves per tree")
    min_data_in_leaf: int = Field(100, ge=1, description="rows per leaf, at least")
    lambda_l2: float = Field(50.0, ge=0, description="ridge on leaf values, in units of the Hessian")
    feature_fraction: float = Field(0.5, gt=0, le=1, description="share of features each tree may use")
    bagging_fraction: float = Field(0.6, gt=0, le=1, description="share of rows each tree may use")
    max_bin: int = Field(63, ge=2, le=255, description="histogram bins per feature")
    max_rounds: int = Field(300, ge=1, description="trees per class, at most")
    patience: int = Field(20, ge=1, description="rounds without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


SPACE: SearchSpace = {
    "learning_rate": Span(0.01, 0.1, log=True),
    "num_leaves": Span(2, 16, log=True),
    "min_data_in_leaf": Span(30, 400, log=True),
    "lambda_l2": Span(1.0, 500.0, log=True),
    "feature_fraction": Span(0.2, 1.0),
    "bagging_fraction": Span(0.4, 1.0),
}


@dataclass(frozen=True)
class LightGBM:
    """P(class) of a booster; a missing value goes the way the split learnt."""

    booster: lgb.Booster

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]."""
        if len(rows) == 0:
            return np.empty((0, max(2, self.booster.num_model_per_iteration())))
        p = np.asarray(self.booster.predict(x[rows], num_threads=1), dtype=np.float64)
        return p if p.ndim == 2 else np.column_stack([1.0 - p, p])

    def importance(self) -> Floats:
        """Total gain of the splits on each feature [F]."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)

    def contributions(self, x: Features, rows: Rows) -> Floats:
        """SHAP values [k, F] of the log-odds of the last class against the first."""
        if len(rows) == 0:
            return np.empty(x[rows].shape)
        found = self.booster.predict(x[rows], pred_contrib=True, num_threads=1)
        margins = self.booster.num_model_per_iteration()
        values = np.asarray(found, dtype=np.float64).reshape(len(rows), margins, -1)
        return against_first(values)[:, -1, :-1]

    def save(self, directory: Path) -> None:
        """Write LightGBM's own text, `model.txt`."""
        write_sealed(directory / "model.txt", self.booster.model_to_string(num_iteration=-1).encode())


@dataclass(frozen=True)
class Prepared:
    """Binned features of one fold; fits may share them as long as `key` is theirs."""

    key: tuple[Any, ...]
    fitting: lgb.Dataset
    tail: lgb.Dataset
    every: lgb.Dataset
    offsets: Floats


def prepare(data: Dataset, rows: Rows, params: Params) -> Prepared:
    """Bin the inner blocks of `rows`, and all of them."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    train_set, _ = _dataset(data, fitting, params)
    inner_set, _ = _dataset(data, tail, params, train_set)
    every, offsets = _dataset(data, rows, params)
    return Prepared(_key(params, rows), train_set, inner_set, every, offsets)


def fit(
    data: Dataset, rows: Rows, *, seed: int, window: int, params: Params, prepared: Prepared | None = None
) -> LightGBM:
    """Find the number of trees on the inner block, then grow that many on all `rows`."""
    if prepared is None or prepared.key != _key(params, rows):
        prepared = prepare(data, rows, params)
    settings = _settings(seed, params, len(data.classes))
    stopper = lgb.early_stopping(params.patience, verbose=False)
    searched = lgb.train(
        settings, prepared.fitting, params.max_rounds, valid_sets=[prepared.tail], callbacks=[stopper]
    )
    booster = lgb.train(settings, prepared.every, max(1, searched.best_iteration))
    return LightGBM(_reload(_shift(booster, prepared.offsets).model_to_string()))


def load(directory: Path) -> LightGBM:
    """The inverse of `LightGBM.save`."""
    return LightGBM(_reload(read_sealed(directory / "model.txt").decode()))


def _key(params: Params, rows: Rows) -> tuple[Any, ...]:
    """What shapes the binned features and their weights."""
    return sha256_bytes(rows.tobytes()), params.max_bin, params.class_weight, params.inner_share


def _binning(params: Params) -> dict[str, Any]:
    # Without a filter by min_data_in_leaf, the bins serve every value of it.
    return {"max_bin": params.max_bin, "feature_pre_filter": False, "data_random_seed": 1}


def _dataset(
    data: Dataset, rows: Rows, params: Params, reference: lgb.Dataset | None = None
) -> tuple[lgb.Dataset, Floats]:
    y = data.y[rows]
    w, offsets = class_balance(y, data.w[rows], params.class_weight, len(data.classes))
    settings = {**_binning(params), "num_threads": 1, "verbosity": -1}
    built = lgb.Dataset(data.x[rows], y, weight=w, reference=reference, params=settings)
    return built.construct(), offsets


def _settings(seed: int, params: Params, classes: int) -> dict[str, Any]:
    own = params.model_dump(exclude={"class_weight", "max_rounds", "patience", "inner_share"})
    return {
        **own,
        **_binning(params),
        **({"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}),
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _shift(booster: lgb.Booster, offsets: Floats) -> lgb.Booster:
    """Add `offsets` [K] to the margins of the classes, by way of the leaves of their first trees."""
    trees = booster.dump_model(num_iteration=1)["tree_info"]
    shifts = offsets if len(trees) > 1 else offsets[1:] - offsets[0]
    for tree, shift in enumerate(shifts):
        if shift != 0.0:
            for leaf in range(trees[tree]["num_leaves"]):
                booster.set_leaf_output(tree, leaf, booster.get_leaf_output(tree, leaf) + shift)
    return booster


def _reload(text: str) -> lgb.Booster:
    """A booster read from text is the one that will be served: predict with it from the start."""
    return lgb.Booster(model_str=text)

"""LightGBM: gradient-boosted trees, grown leaf by leaf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
from pydantic import Field

from models.families.base import FamilyParams, class_balance, inner_split, read_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of LightGBM; the names are the library's where it has one."""

    learning_rate: float = Field(0.01, gt=0, le=1, description="shrinkage of each tree")
    num_leaves: int = Field(4, ge=2, description="leaves per tree")
    min_data_in_leaf: int = Field(100, ge=1, description="rows per leaf, at least")
    lambda_l2: float = Field(50.0, ge=0, description="ridge on leaf values, in units of the Hessian")
    feature_fraction: float = Field(0.5, gt=0, le=1, description="share of features each tree may use")
    bagging_fraction: float = Field(0.6, gt=0, le=1, description="share of rows each tree may use")
    max_bin: int = Field(63, ge=2, le=255, description="histogram bins per feature")
    max_rounds: int = Field(300, ge=1, description="trees, at most")
    patience: int = Field(20, ge=1, description="rounds without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


@dataclass(frozen=True)
class LightGBM:
    """P(up) of a binary booster; a missing value goes the way the split learnt."""

    booster: lgb.Booster

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(up) float64 [k]."""
        return np.asarray(self.booster.predict(x[rows], num_threads=1), dtype=np.float64)

    def importance(self) -> Floats:
        """Total gain of the splits on each feature [F]."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)

    def save(self, directory: Path) -> None:
        """Write LightGBM's own text, `model.txt`."""
        write_sealed(directory / "model.txt", self.booster.model_to_string(num_iteration=-1).encode())


def fit(data: Dataset, rows: Rows, *, seed: int, window: int, params: Params) -> LightGBM:
    """Find the number of trees on the inner block, then grow that many on all `rows`."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    settings = _settings(seed, params)
    train_set, _ = _dataset(data, fitting, params)
    inner_set, _ = _dataset(data, tail, params, train_set)
    stopper = lgb.early_stopping(params.patience, verbose=False)
    searched = lgb.train(settings, train_set, params.max_rounds, valid_sets=[inner_set], callbacks=[stopper])
    all_rows, offset = _dataset(data, rows, params)
    booster = lgb.train(settings, all_rows, max(1, searched.best_iteration))
    return LightGBM(_reload(_shift(booster, offset).model_to_string()))


def load(directory: Path) -> LightGBM:
    """The inverse of `LightGBM.save`."""
    return LightGBM(_reload(read_sealed(directory / "model.txt").decode()))


def _dataset(
    data: Dataset, rows: Rows, params: Params, reference: lgb.Dataset | None = None
) -> tuple[lgb.Dataset, float]:
    w, offset = class_balance(data.y[rows], data.w[rows], params.class_weight)
    built = lgb.Dataset(
        data.x[rows], data.y[rows], weight=w, reference=reference, params={"max_bin": params.max_bin}
    )
    return built, offset


def _settings(seed: int, params: Params) -> dict[str, Any]:
    own = params.model_dump(exclude={"class_weight", "max_rounds", "patience", "inner_share"})
    return {
        **own,
        "objective": "binary",
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _shift(booster: lgb.Booster, offset: float) -> lgb.Booster:
    """Add `offset` to every log-odds, by way of the first tree's leaves."""
    if offset != 0.0:
        for leaf in range(booster.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]):
            booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + offset)
    return booster


def _reload(text: str) -> lgb.Booster:
    """A booster read from text is the one that will be served: predict with it from the start."""
    return lgb.Booster(model_str=text)

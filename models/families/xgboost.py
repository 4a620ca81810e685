"""XGBoost: gradient-boosted trees, grown level by level."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost as xgb
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
from models.logits import logit, sigmoid, softmax

if TYPE_CHECKING:
    from pathlib import Path

    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of XGBoost; the names are the library's where it has one."""

    learning_rate: float = Field(0.01, gt=0, le=1, description="shrinkage of each tree")
    max_depth: int = Field(2, ge=1, le=12, description="levels per tree")
    min_child_weight: float = Field(5.0, ge=0, description="Hessian per leaf, at least: a quarter per row")
    reg_lambda: float = Field(50.0, ge=0, description="ridge on leaf values, in units of the Hessian")
    colsample_bytree: float = Field(0.5, gt=0, le=1, description="share of features each tree may use")
    subsample: float = Field(0.6, gt=0, le=1, description="share of rows each tree may use")
    max_bin: int = Field(63, ge=2, le=255, description="histogram bins per feature")
    max_rounds: int = Field(300, ge=1, description="trees per class, at most")
    patience: int = Field(20, ge=1, description="rounds without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


SPACE: SearchSpace = {
    "learning_rate": Span(0.003, 0.05, log=True),
    "max_depth": Span(1, 5),
    "min_child_weight": Span(1.0, 50.0, log=True),
    "reg_lambda": Span(1.0, 500.0, log=True),
    "colsample_bytree": Span(0.2, 1.0),
    "subsample": Span(0.4, 1.0),
}


@dataclass(frozen=True)
class XGBoost:
    """P(class) of a booster; a missing value goes the way the split learnt."""

    booster: xgb.Booster

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]; the library adds up the leaves in float32."""
        margins = self.booster.predict(_matrix(x[rows]), output_margin=True)
        return softmax(against_first(np.asarray(margins, dtype=np.float64).reshape(len(rows), self._margins)))

    def importance(self) -> Floats:
        """Total gain of the splits on each feature [F]."""
        gains = self.booster.get_score(importance_type="total_gain")
        return np.array(
            [gains.get(f"f{k}", 0.0) for k in range(self.booster.num_features())], dtype=np.float64
        )

    def contributions(self, x: Features, rows: Rows) -> Floats:
        """SHAP values [k, F] of the log-odds of the last class against the first."""
        found = self.booster.predict(_matrix(x[rows]), pred_contribs=True)
        width = self.booster.num_features() + 1
        values = np.asarray(found, dtype=np.float64).reshape(len(rows), self._margins, width)
        return against_first(values)[:, -1, :-1]

    @property
    def _margins(self) -> int:
        """How many the trees add up: one for two classes, else one per class."""
        return max(1, int(_learner(self.booster)["learner_model_param"]["num_class"]))

    def save(self, directory: Path) -> None:
        """Write XGBoost's own JSON, `model.json`."""
        write_sealed(directory / "model.json", bytes(self.booster.save_raw("json")))


@dataclass(frozen=True)
class Prepared:
    """Binned features of one fold; fits may share them as long as `key` is theirs."""

    key: tuple[Any, ...]
    fitting: xgb.QuantileDMatrix
    tail: xgb.QuantileDMatrix
    every: xgb.QuantileDMatrix
    offsets: Floats


def prepare(data: Dataset, rows: Rows, params: Params) -> Prepared:
    """Bin the inner blocks of `rows`, and all of them."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    train_set, _ = _binned(data, fitting, params)
    inner_set, _ = _binned(data, tail, params, train_set)
    every, offsets = _binned(data, rows, params)
    return Prepared(_key(params, rows), train_set, inner_set, every, offsets)


def fit(
    data: Dataset, rows: Rows, *, seed: int, window: int, params: Params, prepared: Prepared | None = None
) -> XGBoost:
    """Find the number of trees on the inner block, then grow that many on all `rows`."""
    if prepared is None or prepared.key != _key(params, rows):
        prepared = prepare(data, rows, params)
    settings = _settings(seed, params, len(data.classes))
    searched = xgb.train(
        settings,
        prepared.fitting,
        params.max_rounds,
        evals=[(prepared.tail, "inner")],
        early_stopping_rounds=params.patience,
        verbose_eval=False,
    )
    booster = xgb.train(settings, prepared.every, searched.best_iteration + 1)
    return XGBoost(_shift(booster, prepared.offsets))


def load(directory: Path) -> XGBoost:
    """The inverse of `XGBoost.save`."""
    return XGBoost(_reload(read_sealed(directory / "model.json")))


def _key(params: Params, rows: Rows) -> tuple[Any, ...]:
    """What shapes the binned features and their weights."""
    return sha256_bytes(rows.tobytes()), params.max_bin, params.class_weight, params.inner_share


def _binned(
    data: Dataset, rows: Rows, params: Params, reference: xgb.QuantileDMatrix | None = None
) -> tuple[xgb.QuantileDMatrix, Floats]:
    y = data.y[rows]
    w, offsets = class_balance(y, data.w[rows], params.class_weight, len(data.classes))
    built = xgb.QuantileDMatrix(data.x[rows], y, weight=w, max_bin=params.max_bin, ref=reference, nthread=1)
    return built, offsets


def _matrix(x: Features) -> xgb.DMatrix:
    return xgb.DMatrix(np.ascontiguousarray(x), nthread=1)


def _settings(seed: int, params: Params, classes: int) -> dict[str, Any]:
    own = params.model_dump(exclude={"class_weight", "max_rounds", "patience", "inner_share"})
    several = {"objective": "multi:softprob", "num_class": classes}
    return {
        **own,
        **({"objective": "binary:logistic"} if classes == 2 else several),
        "tree_method": "hist",
        "seed": seed,
        "nthread": 1,
        "verbosity": 0,
    }


def _shift(booster: xgb.Booster, offsets: Floats) -> xgb.Booster:
    """Add `offsets` [K] to the margins of the classes, by way of the base score; read again, to be served."""
    stored = json.loads(booster.save_raw("json"))
    model = stored["learner"]["learner_model_param"]
    base = np.array(json.loads(model["base_score"]), dtype=np.float64)
    # The base score is a probability when there are two classes, else a margin for each.
    base = sigmoid(logit(base) + offsets[1:]) if len(base) == 1 else base + offsets
    model["base_score"] = json.dumps(base.astype(np.float32).astype(np.float64).tolist())
    return _reload(json.dumps(stored).encode())


def _reload(content: bytes) -> xgb.Booster:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    return booster


def _learner(booster: xgb.Booster) -> dict[str, Any]:
    learner: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return learner

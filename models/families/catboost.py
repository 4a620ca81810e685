"""CatBoost: gradient-boosted symmetric trees."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from catboost import CatBoostClassifier, Pool
from pydantic import Field

from core.errors import DataError
from core.files import sha256_bytes
from models.families.base import (
    FamilyParams,
    SearchSpace,
    Span,
    against_first,
    class_balance,
    class_weights,
    inner_split,
    read_sealed,
    write_sealed,
)
from models.logits import softmax

if TYPE_CHECKING:
    from models.dataset import Dataset, Features, Floats, Rows


class Params(FamilyParams):
    """Parameters of CatBoost; the names are the library's where it has one."""

    learning_rate: float = Field(0.015, gt=0, le=1, description="shrinkage of each tree")
    depth: int = Field(3, ge=1, le=10, description="levels per tree")
    l2_leaf_reg: float = Field(30.0, ge=0, description="ridge on leaf values, in rows")
    rsm: float = Field(0.3, gt=0, le=1, description="share of features each level may use")
    subsample: float = Field(0.6, gt=0, le=1, description="share of rows each tree may use")
    random_strength: float = Field(
        1.0, ge=0, description="noise in the choice of splits, fading as trees grow"
    )
    border_count: int = Field(63, ge=1, le=254, description="split candidates per feature")
    max_rounds: int = Field(300, ge=1, description="trees, at most")
    patience: int = Field(15, ge=1, description="rounds without a better inner log-loss before stopping")
    inner_share: float = Field(0.2, gt=0, lt=1, description="share of training rows in the inner tail block")


SPACE: SearchSpace = {
    "learning_rate": Span(0.003, 0.05, log=True),
    "depth": Span(1, 6),
    "l2_leaf_reg": Span(1.0, 300.0, log=True),
    "rsm": Span(0.1, 1.0),
    "subsample": Span(0.4, 1.0),
}


@dataclass(frozen=True)
class CatBoost:
    """P(class) of symmetric trees plus a bias; a missing value counts as smaller than any other."""

    model: CatBoostClassifier

    def predict(self, x: Features, rows: Rows) -> Floats:
        """P(class) float64 [k, K]."""
        margins = np.empty((0, self._margins))
        if len(rows) > 0:  # which the library refuses
            pool = Pool(x[rows], thread_count=1)
            raw = self.model.predict(pool, prediction_type="RawFormulaVal", thread_count=1)
            margins = np.asarray(raw, dtype=np.float64).reshape(len(rows), self._margins)
        return softmax(against_first(margins))

    def importance(self) -> Floats:
        """Change of the prediction per feature [F], in percent of the whole."""
        importance = self.model.get_feature_importance(type="PredictionValuesChange", thread_count=1)
        return np.asarray(importance, dtype=np.float64)

    def contributions(self, x: Features, rows: Rows) -> Floats:
        """SHAP values [k, F] of the log-odds of the last class against the first."""
        if len(rows) == 0:
            return np.empty(x[rows].shape)
        pool = Pool(x[rows], thread_count=1)
        found = self.model.get_feature_importance(pool, type="ShapValues", thread_count=1)
        values = np.asarray(found, dtype=np.float64).reshape(len(rows), self._margins, -1)
        return against_first(values)[:, -1, :-1]

    @property
    def _margins(self) -> int:
        """How many the trees add up: one for two classes, else one per class."""
        return int(np.size(self.model.get_scale_and_bias()[1]))

    def save(self, directory: Path) -> None:
        """Write CatBoost's own JSON, `model.json`."""
        write_sealed(directory / "model.json", _to_json(self.model).encode())


@dataclass(frozen=True)
class Prepared:
    """Binned features of one fold, and the margins [K] its boosting starts from; of fits with this `key`."""

    key: tuple[Any, ...]
    fitting: Pool
    tail: Pool
    every: Pool
    start: Floats
    offsets: Floats


def prepare(data: Dataset, rows: Rows, params: Params) -> Prepared:
    """Bin the inner blocks of `rows`, and all of them, on every core."""
    prepared = _prepare(data, rows, params)
    for pool in (prepared.fitting, prepared.every):
        pool.quantize(border_count=params.border_count)
    return prepared


def _prepare(data: Dataset, rows: Rows, params: Params) -> Prepared:
    """Unbinned, which a fit does on its one thread."""
    fitting, tail = inner_split(data, rows, params.inner_share)
    _check_varies(data, fitting)
    inner_start, start = _start(data, fitting, params), _start(data, rows, params)
    train, every = _pool(data, fitting, params, inner_start), _pool(data, rows, params, start)
    _, offsets = class_balance(data.y[rows], data.w[rows], params.class_weight, len(start))
    inner = _pool(data, tail, params, inner_start)
    return Prepared(_key(params, rows), train, inner, every, start, offsets)


def fit(
    data: Dataset, rows: Rows, *, seed: int, window: int, params: Params, prepared: Prepared | None = None
) -> CatBoost:
    """Find the number of trees on the inner block, then grow that many on all `rows`."""
    if prepared is None or prepared.key != _key(params, rows):
        prepared = _prepare(data, rows, params)
    classes, mean_weight = len(data.classes), float(np.mean(data.w[rows]))
    searched = _classifier(seed, params, params.max_rounds, mean_weight, classes)
    searched.fit(
        prepared.fitting, eval_set=prepared.tail, early_stopping_rounds=params.patience, verbose=False
    )
    model = _classifier(seed, params, searched.get_best_iteration() + 1, mean_weight, classes)
    model.fit(prepared.every, verbose=False)
    scale, _ = model.get_scale_and_bias()
    bias = prepared.start + prepared.offsets
    model.set_scale_and_bias(scale, bias.tolist() if classes > 2 else float(bias[1] - bias[0]))
    return CatBoost(_from_json(_to_json(model)))


def load(directory: Path) -> CatBoost:
    """The inverse of `CatBoost.save`."""
    return CatBoost(_from_json(read_sealed(directory / "model.json").decode()))


def _key(params: Params, rows: Rows) -> tuple[Any, ...]:
    """What shapes the binned features and their weights."""
    return sha256_bytes(rows.tobytes()), params.border_count, params.class_weight, params.inner_share


def _start(data: Dataset, rows: Rows, params: Params) -> Floats:
    """Margins [K] that boosting starts from: the log of the fitted rates."""
    y, classes = data.y[rows], len(data.classes)
    w, _ = class_balance(y, data.w[rows], params.class_weight, classes)
    weights = class_weights(y, w, classes)
    return np.asarray(np.log(weights / np.sum(weights)))


def _pool(data: Dataset, rows: Rows, params: Params, start: Floats) -> Pool:
    w, _ = class_balance(data.y[rows], data.w[rows], params.class_weight, len(start))
    baseline = start if len(start) > 2 else start[1:] - start[:1]
    return Pool(
        np.ascontiguousarray(data.x[rows]),
        data.y[rows].astype(np.int32),
        weight=w,
        baseline=np.tile(baseline, (len(rows), 1)),
        thread_count=1,
    )


def _classifier(
    seed: int, params: Params, rounds: int, mean_weight: float, classes: int
) -> CatBoostClassifier:
    own = params.model_dump(exclude={"class_weight", "l2_leaf_reg", "max_rounds", "patience", "inner_share"})
    return CatBoostClassifier(
        **own,
        # The library multiplies by the mean weight, which would undo that weights count as rows.
        l2_leaf_reg=params.l2_leaf_reg / mean_weight,
        iterations=rounds,
        loss_function="Logloss" if classes == 2 else "MultiClass",
        boosting_type="Plain",
        bootstrap_type="Bernoulli",
        random_seed=seed,
        thread_count=1,
        allow_writing_files=False,
        logging_level="Silent",
    )


def _check_varies(data: Dataset, rows: Rows) -> None:
    """DataError where the library would give up: a missing value is one smaller than all others."""
    x = np.nan_to_num(data.x[rows], nan=-np.inf)
    if (x.min(axis=0) == x.max(axis=0)).all():
        raise DataError(f"every feature is constant over {len(rows)} training rows: mend the features")


def _to_json(model: CatBoostClassifier) -> str:
    """The model and its parameters: the library also stores a time stamp and a random identifier."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.json"
        model.save_model(str(path), format="json")
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    stored["model_info"] = {"params": stored["model_info"]["params"]}
    return json.dumps(stored, sort_keys=True) + "\n"


def _from_json(text: str) -> CatBoostClassifier:
    """A model read from JSON is the one that will be served: predict with it from the start."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.json"
        path.write_text(text, encoding="utf-8")
        return CatBoostClassifier().load_model(str(path), format="json")

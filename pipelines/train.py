"""Stage `train`: purged walk-forward of every family, the nested ensemble over it, and the final fit."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.files import replace_directory, write_json
from evaluation.leaks import audit_features, audit_split, require
from evaluation.splits import Fold, walk_forward
from models.columns import RECALIBRATED, to_columns
from models.dataset import Dataset
from models.fitting import Progress
from models.training import (
    combinatorial_paths,
    fit_final,
    nested_baseline,
    nested_ensemble,
    out_of_fold,
)
from pipelines import stage, stored
from pipelines.matrix import training_matrix
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Predict every test block out of fold, then fit what will be exported on everything."""
    data = training_matrix(root, params.labels.target)
    folds = walk_forward(data.times, data.t1, **params.splits.walk_forward())
    outcome = stored.labels(root)["ret"].to_numpy()
    split = audit_split(folds, data.times, data.t1, data.x, outcome)
    require(split)
    train, recipe = params.train, params.ensemble.model_dump()
    found = out_of_fold(data, folds, train.families, **_fitting(params))
    nested = nested_ensemble(found.predictions, data, **recipe)
    baseline = nested_baseline(found.predictions, data, **recipe)
    nested = _with_outcomes(nested.assign(**to_columns(RECALIBRATED, baseline, data.classes)), data)
    final = fit_final(data, found, window=train.window, **recipe)
    with replace_directory(root / STORE / "train") as out:
        write_table(out / "oof.parquet", _with_outcomes(found.predictions, data))
        write_table(out / "nested.parquet", nested)
        write_table(out / "importance.parquet", found.importance)
        if params.splits.groups:
            write_table(out / "paths.parquet", _with_outcomes(_paths(data, params), data))
        write_json(out / "folds.json", [_describe(n, fold, data) for n, fold in enumerate(folds, 1)])
        write_json(
            out / "leaks.json", [asdict(finding) for finding in (*split, _alone(nested, data, params))]
        )
        final.save(out / "ensemble")
    return f"{len(train.families)} families over {len(folds)} folds, {len(nested)} rows judged out of sample"


def _fitting(params: Params) -> dict[str, Any]:
    train = params.train
    return {
        "params": {name: train.family_params(name) for name in train.families},
        "seed": train.seed,
        "window": train.window,
        "processes": train.processes,
        "on_progress": _tell,
    }


def _tell(progress: Progress) -> None:
    where = f"fold {progress.fold}" if progress.fold else "final fit"
    stage.tell(f"{progress.done}/{progress.total} {where} {progress.family}")


def _paths(data: Dataset, params: Params) -> pd.DataFrame:
    splits = params.splits
    return combinatorial_paths(
        data, splits.groups, splits.test_groups, splits.embargo, params.train.families, **_fitting(params)
    )


def _alone(nested: pd.DataFrame, data: Dataset, params: Params) -> Any:
    """Whether a feature by itself knows the outcome of the judged rows."""
    rows = nested.loc[nested["w"] > 0, "row"].to_numpy()
    return audit_features(data.x[rows], data.y[rows], data.names, overlap=params.labels.horizon)


def _with_outcomes(predicted: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """Predictions by bar close, with the class number `y`, the weight `w` and any primary's `side`."""
    rows = predicted["row"].to_numpy()
    index = pd.DatetimeIndex(data.times[rows], tz="UTC", name="timestamp")
    known: dict[str, Any] = {"y": data.y[rows], "w": data.w[rows]}
    side = data.side(rows)
    return predicted.assign(**known if side is None else known | {"side": np.sign(side)}).set_index(index)


def _describe(number: int, fold: Fold, data: Dataset) -> dict[str, Any]:
    def day(row: int) -> str:
        return str(pd.Timestamp(data.times[row], tz="UTC").isoformat())

    return {
        "fold": number,
        "train_rows": len(fold.train),
        "train_first": day(fold.train[0]),
        "train_last": day(fold.train[-1]),
        "test_rows": len(fold.test),
        "test_first": day(fold.test[0]),
        "test_last": day(fold.test[-1]),
    }


if __name__ == "__main__":
    stage.run("train", work)

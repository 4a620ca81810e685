"""Stage `train`: purged walk-forward of every family, the nested ensemble over it, and the final fit."""

from pathlib import Path
from typing import Any

import pandas as pd

from core.files import replace_directory, write_json
from evaluation.splits import Fold, walk_forward
from models.dataset import Dataset
from models.ensemble import RECALIBRATED
from models.training import Progress, fit_final, nested_baseline, nested_ensemble, out_of_fold
from pipelines import stage
from pipelines.matrix import training_matrix
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Predict every test block out of fold, then fit what will be exported on everything."""
    data = training_matrix(root)
    folds = walk_forward(data.times, data.t1, **params.splits.model_dump())
    train, ensemble = params.train, params.ensemble.model_dump()
    common: Any = {
        "params": {name: train.family_params(name) for name in train.families},
        "seed": train.seed,
        "window": train.window,
        "on_progress": _tell,
    }
    oof = out_of_fold(data, folds, train.families, processes=train.processes, **common)
    nested = nested_ensemble(oof, data, **ensemble)
    nested[RECALIBRATED] = nested_baseline(oof, data, **ensemble)
    final = fit_final(data, oof, **common, **ensemble)
    with replace_directory(root / STORE / "train") as out:
        write_table(out / "oof.parquet", _with_outcomes(oof, data))
        write_table(out / "nested.parquet", _with_outcomes(nested, data))
        write_json(out / "folds.json", [_describe(n, fold, data) for n, fold in enumerate(folds, 1)])
        final.save(out / "ensemble")
    judged = len(nested)
    return f"{len(train.families)} families over {len(folds)} folds, {judged} rows judged out of sample"


def _tell(progress: Progress) -> None:
    where = f"fold {progress.fold}" if progress.fold else "final fit"
    stage.tell(f"{progress.done}/{progress.total} {where} {progress.family}")


def _with_outcomes(predicted: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """Out-of-fold lines indexed by bar close, with the outcome `y` and the weight `w`."""
    rows = predicted["row"].to_numpy()
    index = pd.DatetimeIndex(data.times[rows], tz="UTC", name="timestamp")
    return predicted.assign(y=data.y[rows], w=data.w[rows]).set_index(index)


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

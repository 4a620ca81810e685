"""Many histories from one: the paths of combinatorial purged validation, and how their results spread.

Folds of `splits.combinatorial` train on the future of some of their tests: the spread tells how much a result
depends on which history happened, the walk-forward record what could have been earned. López de Prado 2018,
ch. 12.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation import splits

if TYPE_CHECKING:
    import pandas as pd

Rows = npt.NDArray[np.int64]


def histories(row: npt.ArrayLike, fold: npt.ArrayLike, *, groups: int, test_groups: int) -> Rows:
    """Which predictions make each path: positions [paths, n] into the m predictions, rows in order.

    row: [m] number 0 … n − 1 of the predicted row. fold: [m] which fold of `splits.combinatorial` predicted
    it, counted from 0. `column[histories(…)]` is any column of those predictions along every path.
    """
    row, fold = np.asarray(row, dtype=np.int64), np.asarray(fold, dtype=np.int64)
    table, n = splits.paths(groups, test_groups), int(row.max()) + 1
    position = np.full((int(table.max()) + 1, n), -1, dtype=np.int64)
    position[fold, row] = np.arange(len(row))
    sizes = [len(block) for block in np.array_split(np.arange(n), groups)]
    group = np.repeat(np.arange(groups), sizes)
    found: Rows = position[table[:, group], np.arange(n)]
    if (found < 0).any():
        path, missing = np.argwhere(found < 0)[0]
        raise DataError(
            f"row {missing} has no prediction by fold {table[path, group[missing]]}: are these the folds of "
            f"{groups} groups, {test_groups} tested at a time, counted from 0?"
        )
    return found


def distribution(scores: "pd.DataFrame") -> dict[str, Any]:
    """How each family fares over the paths.

    scores: one row per family and path with columns family, path, sharpe (annualised, after costs) and
    log_loss. Returns {family: {paths, losing, sharpe, log_loss}}: `losing` is the share of paths with a
    Sharpe ratio of 0 or less, one that never traded included; the other two {low, median, high, values},
    `low` and `high` being the 5 % and 95 % quantiles and `values` in the order of the paths.
    """
    return {str(family): _spread(of) for family, of in scores.sort_values("path").groupby("family")}


def _spread(of: "pd.DataFrame") -> dict[str, Any]:
    earned = np.nan_to_num(of["sharpe"].to_numpy(dtype=np.float64))
    return {
        "paths": len(of),
        "losing": float((earned <= 0).mean()),
        "sharpe": _quantiles(earned),
        "log_loss": _quantiles(of["log_loss"].to_numpy(dtype=np.float64)),
    }


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {"low": float(low), "median": float(median), "high": float(high), "values": values.tolist()}

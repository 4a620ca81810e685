"""How results spread over the paths of combinatorial purged validation (López de Prado 2018, ch. 12).

Its folds train on the future of some of their tests: the spread tells how much a result depends on which
history happened, the walk-forward record what could have been earned.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


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

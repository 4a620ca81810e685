"""From the prediction log to the frames that are compared: one row per bar, one float column per feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.errors import DataError
from monitoring.prediction_log import feature_columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NESTED = ["features", "feature_set", "base_probabilities"]


def log_frame(table: pa.Table) -> pd.DataFrame:
    """A table of `prediction_log.read` as a frame by bar time, UTC, ascending, one column per feature.

    Of a bar that was predicted more than once the last logged row stays. Read one symbol and one model
    version: another version's predictions are another distribution, and mixed ones are a DataError.
    """
    import pandas as pd

    for column in ("symbol", "model_version"):
        if len(found := table[column].unique().to_pylist()) > 1:
            raise DataError(f"the log holds {column} {found}: read one {column} at a time")
    plain = table.drop_columns(_NESTED).to_pandas()
    frame = pd.concat([plain, pd.DataFrame(feature_columns(table), index=plain.index)], axis=1)
    frame = frame.sort_values("logged_at", kind="stable").drop_duplicates("bar_time", keep="last")
    return frame.set_index("bar_time").sort_index()


def recent_windows(
    frame: pd.DataFrame, rows: int, *, count: int = 2, advance: float = 0.1
) -> list[pd.DataFrame]:
    """The last `count` windows of `rows` rows, oldest first, their ends `advance · rows` rows apart.

    A log that has just been filled can so be confirmed at once. Windows that the log is too short for are
    left out; the newest is always there, shorter if the log is.
    """
    step = max(1, int(np.ceil(rows * advance)))
    ends = [len(frame) - step * back for back in reversed(range(count))]
    return [frame.iloc[max(0, end - rows) : end] for end in ends if end >= rows or end == len(frame)]

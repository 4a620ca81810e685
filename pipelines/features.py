"""Stage `features`: the matrix, and the stream's checkpoint at the as-of bar."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import DataError
from core.files import replace_directory, write_bytes, write_json
from features import build
from features.batch import epoch_seconds
from features.probes import differing, finite, streamed_rows
from features.readiness import require_coarser, require_history
from features.stream import Stream
from pipelines import stage, stored
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Build every chosen feature, in batch and as a stream, which must agree bit for bit."""
    held, own = stored.bars(root), params.all_features
    bars, chosen = held.bars, params.select_features()
    require_coarser(chosen, held.timeframe)
    require_history(chosen, epoch_seconds(bars.index))
    matrix, stream = build(bars, chosen), Stream(chosen)
    _require_values(matrix, own)
    row = np.empty(0)
    for row in streamed_rows(stream, bars):  # noqa: B007 only the last one is compared
        pass
    unequal = [name for name, _ in differing(row[None], matrix.iloc[-1:])]
    if unequal:
        raise DataError(f"stream and batch differ at the last bar in {unequal}: the features are not causal")
    warmup = len(bars) - stream.complete
    manifest = {"definitions": [list(item) for item in chosen.items()], "warmup": warmup}
    with replace_directory(root / STORE / "features") as out:
        write_table(out / "matrix.parquet", matrix)
        write_bytes(out / "checkpoint.bin", stream.checkpoint())
        write_json(out / "manifest.json", manifest)
    yours = f" ({len(own)} your own)" if own else ""
    return f"{len(chosen)} features{yours}, warm after {warmup} bars; stream equals batch"


def _require_values(matrix: pd.DataFrame, own: Collection[str]) -> None:
    """DataError for a feature too large for a model, or one of the user's without any value."""
    faults = [f"{finding.feature}: {finding.detail}" for finding in finite(matrix)]
    faults += [
        f"{name}: no value at any bar; `bellwether features --check` looks closer"
        for name in sorted(own)
        if matrix[name].isna().all()
    ]
    if faults:
        raise DataError("; ".join(faults))


if __name__ == "__main__":
    stage.run("features", work)

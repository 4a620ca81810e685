"""Stage `features`: the matrix, and the stream's checkpoint at the as-of bar."""

from pathlib import Path

import numpy as np

from core.errors import DataError
from core.files import replace_directory, write_bytes, write_json
from features import build, definitions
from features.stream import Stream
from pipelines import stage, stored
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Build every feature of the catalogue, in batch and as a stream, which must agree bit for bit."""
    bars = stored.bars(root).bars
    catalogue = definitions()
    matrix = build(bars, catalogue)
    stream = Stream(catalogue)
    times = bars.index.as_unit("ns").asi8 / 1e9
    row = np.empty(0)
    for bar, time in zip(bars.to_numpy().tolist(), times.tolist(), strict=True):
        open_, high, low, close, volume = bar
        row = stream.push(open_, high, low, close, volume, time)
    if row.tobytes() != matrix.iloc[-1].to_numpy().tobytes():
        differing = [n for n, a, b in zip(catalogue, row, matrix.iloc[-1], strict=True) if a != b and a == a]
        raise DataError(
            f"stream and batch differ at the last bar in {differing}: the features are not causal"
        )
    if len(bars) <= stream.warmup:
        raise DataError(f"{len(bars)} bars, features need more than {stream.warmup} to warm up: add history")
    manifest = {"definitions": [list(item) for item in catalogue.items()], "warmup": stream.warmup}
    with replace_directory(root / STORE / "features") as out:
        write_table(out / "matrix.parquet", matrix)
        write_bytes(out / "checkpoint.bin", stream.checkpoint())
        write_json(out / "manifest.json", manifest)
    return f"{len(catalogue)} features, warm after {stream.warmup} bars; stream equals batch"


if __name__ == "__main__":
    stage.run("features", work)

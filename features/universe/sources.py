"""Where the bars of one symbol come from, a frame of consecutive bars at a time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.bars import COLUMNS
from data.sources import SourceRequest, open_source
from features.batch import BLOCK

# a file, or a function of a module that returns canonical bars whole or in frames
Source = Path | str | Callable[[], pd.DataFrame | Iterable[pd.DataFrame]]


def frames(source: Source, symbol: str) -> Iterator[pd.DataFrame]:
    """Bars of `source` in order, in frames of at most `BLOCK` rows, not yet checked.

    A parquet file with the canonical columns is read row group by row group; any other file as
    `data.sources.csv_file` reads it, whole. DataError for a file that cannot be read.
    """
    for part in _parts(source, symbol):
        for start in range(0, len(part), BLOCK):
            yield part.iloc[start : start + BLOCK]


def _parts(source: Source, symbol: str) -> Iterable[pd.DataFrame]:
    if callable(source):
        given = source()
        return [given] if isinstance(given, pd.DataFrame) else given
    path = Path(source)
    if _is_canonical(path):
        return _read_blocks(path)
    return [open_source("csv").fetch(SourceRequest(symbol=symbol, path=path)).bars]


def _is_canonical(path: Path) -> bool:
    """Whether a file is parquet with a UTC time `timestamp` and float64 bars."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return False
    kinds = {field.name: field.type for field in schema}
    time = kinds.get("timestamp")
    utc = time is not None and pa.types.is_timestamp(time) and time.tz == "UTC"
    return utc and all(kinds.get(name) == pa.float64() for name in COLUMNS)


def _read_blocks(path: Path) -> Iterator[pd.DataFrame]:
    file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    for batch in file.iter_batches(BLOCK, columns=["timestamp", *COLUMNS], use_threads=False):
        values = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS}
        index = pd.DatetimeIndex(batch.column("timestamp").to_pandas(), name="timestamp")
        yield pd.DataFrame(values, index=index)

"""Bars on disk: one parquet file per symbol, timeframe and year."""

from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.bars import COLUMNS, check_bars
from core.errors import ArtifactError, DataError
from core.files import replace_directory
from core.timeframe import Timeframe
from data.versions import bars_hash

_SCHEMA = pa.schema(
    [pa.field("timestamp", pa.timestamp("ns", tz="UTC"), nullable=False)]
    + [pa.field(name, pa.float64(), nullable=False) for name in COLUMNS]
)
_REMEDY = "restore it (`dvc checkout`) or run the step that writes it again"


def bars_directory(root: Path, symbol: str, timeframe: Timeframe) -> Path:
    """`root`/symbol/timeframe; characters that a file name cannot hold are percent-encoded."""
    name = quote(symbol, safe="^=+-_ ").replace(".", "%2E")
    if not name.strip():
        raise DataError(f"symbol {symbol!r} is blank: set data.symbol")
    return root / name / str(timeframe)


def write_bars(root: Path, bars: pd.DataFrame, symbol: str, timeframe: Timeframe) -> Path:
    """Replace all stored years of one symbol and timeframe by `bars`; returns the directory.

    Canonical bars only (`core.bars.check_bars`). The same bars give the same bytes: no time, no machine and
    no pandas metadata in the file. Each page has a checksum, and each file names the hash of its rows. The
    directory is swapped in at the end, so a reader sees the old years or the new ones.
    """
    check_bars(bars)
    if bars.empty:
        raise DataError(f"no bars of {symbol} {timeframe} to write: a stored series needs at least one row")
    path = bars_directory(root, symbol, timeframe)
    with replace_directory(path) as fresh:
        for year, part in bars.groupby(pd.DatetimeIndex(bars.index).year):
            _write_year(fresh / f"{year}.parquet", part, symbol, timeframe)
    return path


def _write_year(path: Path, bars: pd.DataFrame, symbol: str, timeframe: Timeframe) -> None:
    index = pd.DatetimeIndex(bars.index).as_unit("ns")
    columns = [pa.array(index, type=_SCHEMA.field(0).type), *(pa.array(bars[name]) for name in COLUMNS)]
    identity = {"symbol": symbol, "timeframe": str(timeframe), "bars_sha256": bars_hash(bars)}
    pq.write_table(
        pa.table(columns, schema=_SCHEMA.with_metadata(identity)),
        path,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )


def read_bars(root: Path, symbol: str, timeframe: Timeframe) -> pd.DataFrame:
    """All stored years of one symbol and timeframe, canonical and in time order.

    ArtifactError names a file whose pages fail their checksum, whose rows differ from the hash it was written
    with, or that belongs to another series. DataError when nothing is stored.
    """
    files = sorted(bars_directory(root, symbol, timeframe).glob("*.parquet"))
    if not files:
        raise DataError(f"no stored bars of {symbol} {timeframe} under {root}: run the ingest stage first")
    bars = pd.concat([_read_year(file, symbol, timeframe) for file in files])
    check_bars(bars)
    return bars


def _read_year(path: Path, symbol: str, timeframe: Timeframe) -> pd.DataFrame:
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        identity = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        values = {name: table.column(name).to_numpy() for name in ("timestamp", *COLUMNS)}
        index = pd.DatetimeIndex(values.pop("timestamp"), tz="UTC", name="timestamp")
        bars = pd.DataFrame(values, index=index, dtype="float64")
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise ArtifactError(f"{path} is corrupt ({str(error).splitlines()[0]}): {_REMEDY}") from error
    owner = (identity.get("symbol"), identity.get("timeframe"))
    if owner != (symbol, str(timeframe)):
        raise ArtifactError(f"{path} says it holds {owner}, not {(symbol, str(timeframe))}: {_REMEDY}")
    if identity.get("bars_sha256") != bars_hash(bars):
        raise ArtifactError(f"{path} holds other rows than were written (hash differs): {_REMEDY}")
    return bars

"""Predictions as columns: the arrow schema, parquet segments, and reading a log back."""

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from core.errors import ArtifactError
from core.files import sha256_bytes
from monitoring.journal import scan

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT, JOURNAL = "segment-*.parquet", "journal-*.wal"


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """One prediction with its inputs and its pedigree.

    Times are UTC epoch seconds; `bar_time` is the bar's close. `features` is the float64 vector [F] the
    stream produced, as little-endian bytes.
    """

    symbol: str
    bar_time: float
    logged_at: float
    model: str
    model_version: str
    data_hash: str
    probability: float
    confidence: float
    side: str
    base_probabilities: dict[str, float]
    features: bytes
    open: float
    high: float
    low: float
    close: float
    volume: float
    latency_ms: float


def file_number(path: Path) -> int:
    """The running number in the name of a segment or journal."""
    return int(path.stem.split("-")[1])


def feature_set(names: Sequence[str]) -> str:
    """A short name for an ordered set of features."""
    return sha256_bytes("\n".join(names).encode())[:12]


def journal_rows(payloads: Sequence[bytes]) -> tuple[list[str], list[Prediction]]:
    """Decode a journal: its first record names the features, the others are predictions."""
    if not payloads:
        return [], []
    decoder = msgspec.msgpack.Decoder(Prediction)
    return msgspec.msgpack.decode(payloads[0], type=list[str]), [decoder.decode(p) for p in payloads[1:]]


def schema() -> "pa.Schema":
    """The columns of a prediction log."""
    import pyarrow as pa

    text, number, time = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
    kinds = {"bar_time": time, "logged_at": time, "features": pa.list_(number)}
    kinds["base_probabilities"] = pa.map_(text, number)
    kinds |= dict.fromkeys(("symbol", "model", "model_version", "data_hash", "side"), text)
    fields = [(name, kinds.get(name, number)) for name in Prediction.__struct_fields__]
    return pa.schema([*fields, ("feature_set", text)])


def to_table(names: Sequence[str], rows: Sequence[Prediction]) -> "pa.Table":
    """Rows of one feature set as columns; the schema metadata maps the set to its names, one per line."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        field: [getattr(r, field) for r in rows] for field in Prediction.__struct_fields__
    }
    columns["features"] = _vectors(columns["features"])
    for time in ("bar_time", "logged_at"):
        micros = np.round(np.array(columns[time], dtype=np.float64) * 1e6).astype(np.int64)
        columns[time] = pa.array(micros).cast(pa.timestamp("us", tz="UTC"))
    columns["base_probabilities"] = [list(row.base_probabilities.items()) for row in rows]
    columns["feature_set"] = [feature_set(names)] * len(rows)
    metadata = {feature_set(names): "\n".join(names)} if rows else {}
    return pa.table(columns, schema=schema().with_metadata(metadata))


def _vectors(blobs: Sequence[bytes]) -> "pa.ListArray":
    import pyarrow as pa

    vectors = [np.frombuffer(blob, dtype="<f8") for blob in blobs]
    offsets = np.cumsum([0, *(v.size for v in vectors)], dtype=np.int32)
    values = np.concatenate(vectors) if vectors else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def to_parquet(names: Sequence[str], rows: Sequence[Prediction]) -> bytes:
    """A segment's bytes, with page checksums."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(to_table(names, rows), sink, write_page_checksum=True, compression="zstd")
    return sink.getvalue()


def read(
    directory: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    symbol: str | None = None,
    model_version: str | None = None,
) -> "pa.Table":
    """Predictions with start <= bar_time <= end, in the order they were made, segments and journal merged.

    Columns: those of `Prediction` (times as UTC timestamps, `features` list<float64>, `base_probabilities`
    map<string, float64>) and `feature_set`; the schema metadata maps each feature set to its names, one
    per line. Safe while a writer runs. ArtifactError names a damaged file; no predictions give no rows.
    """
    import pyarrow as pa

    parts = [_select(part, start, end, symbol, model_version) for part in _parts(directory)]
    metadata = {k: v for part in parts for k, v in (part.schema.metadata or {}).items()}
    bare = [part.replace_schema_metadata(None) for part in (schema().empty_table(), *parts)]
    return pa.concat_tables(bare).replace_schema_metadata(metadata)


def _select(
    table: "pa.Table", start: datetime | None, end: datetime | None, symbol: str | None, version: str | None
) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    if start is not None:
        table = table.filter(pc.field("bar_time") >= pa.scalar(start))
    if end is not None:
        table = table.filter(pc.field("bar_time") <= pa.scalar(end))
    if symbol is not None:
        table = table.filter(pc.field("symbol") == symbol)
    return table if version is None else table.filter(pc.field("model_version") == version)


def _parts(directory: Path) -> Iterator["pa.Table"]:
    files = [path for kind in (SEGMENT, JOURNAL) for path in directory.glob(kind)]
    for number in sorted({file_number(path) for path in files}):
        segment = directory / f"segment-{number:08d}.parquet"
        if segment.exists():
            # None: retention removed it meanwhile
            if (part := _read_segment(segment)) is not None:
                yield part
            continue
        try:
            yield to_table(*journal_rows(list(scan(directory / f"journal-{number:08d}.wal"))))
        except FileNotFoundError:
            # the writer sealed it meanwhile; an empty journal leaves no segment
            if segment.exists() and (part := _read_segment(segment)) is not None:
                yield part


def symbols_of(path: Path) -> list[str]:
    """The symbol of each row of a segment; ArtifactError when it is damaged."""
    table = _read_columns(path, ["symbol"])
    return [] if table is None else [str(symbol) for symbol in table["symbol"].to_pylist()]


def _read_columns(path: Path, columns: list[str] | None = None) -> "pa.Table | None":
    """A segment's columns, all by default; None when there is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}): restore it from a backup, or delete it to lose its predictions"
        ) from error


def _read_segment(path: Path) -> "pa.Table | None":
    table = _read_columns(path)
    if table is not None and not table.schema.equals(schema(), check_metadata=False):
        raise ArtifactError(
            f"{path} has another schema: it was written by another version; move it elsewhere"
        )
    return table


def feature_columns(table: "pa.Table") -> "dict[str, np.ndarray[Any, np.dtype[np.float64]]]":
    """Feature name → float64 [n] over the rows of `table`; a row without that feature has NaN."""
    names = {k.decode(): v.decode().split("\n") for k, v in (table.schema.metadata or {}).items()}
    sets = np.array(table["feature_set"].to_pylist(), dtype=object)
    columns: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = {}
    for key in dict.fromkeys(sets):
        rows = np.flatnonzero(sets == key)
        values = np.array(table["features"].take(rows).combine_chunks().flatten())
        for name, column in zip(names[key], values.reshape(rows.size, -1).T, strict=True):
            columns.setdefault(name, np.full(sets.size, np.nan))[rows] = column
    return columns

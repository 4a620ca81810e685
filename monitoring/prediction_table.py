"""Predictions as columns: the arrow schema, parquet segments, and reading a log back."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from core.errors import ArtifactError
from core.files import replace_file, sha256_bytes
from monitoring.journal import scan
from monitoring.log_files import LogFile, log_files, standing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# So many at a time become columns: the objects of a batch are small beside the columns of a segment.
_BATCH = 4096
# A reader follows the files as they are sealed and merged, which is far slower than reading.
_LOOKS = 100
_ANOTHER_VERSION = "{path} was written by another version ({error}): move it elsewhere"


class Prediction(msgspec.Struct, frozen=True, array_like=True, gc=False):
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


_PREDICTIONS = msgspec.msgpack.Decoder(list[Prediction])


def feature_set(names: Sequence[str]) -> str:
    """A short name for an ordered set of features."""
    return sha256_bytes("\n".join(names).encode())[:12]


def journal_table(payloads: Iterable[bytes]) -> "pa.Table":
    """A journal's records as columns: the first names the features, the others are predictions.

    msgspec.DecodeError when a record is not of this version.
    """
    import pyarrow as pa

    records = iter(payloads)
    names = msgspec.msgpack.decode(next(records, b"\x90"), type=list[str])
    parts = []
    while batch := list(islice(records, _BATCH)):
        # one call for an array of them all
        array = b"\xdd" + struct.pack(">I", len(batch)) + b"".join(batch)
        parts.append(to_table(names, _PREDICTIONS.decode(array)))
    return pa.concat_tables(parts) if parts else to_table(names, [])


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

    columns = {field: list(map(attrgetter(field), rows)) for field in Prediction.__struct_fields__}
    key, kinds, count = feature_set(names), schema(), len(rows)
    made: dict[str, pa.Array] = {"feature_set": _texts([key] * count)}
    made["features"] = _vectors(columns.pop("features"))
    made["base_probabilities"] = _maps(columns.pop("base_probabilities"))
    for name, values in columns.items():
        kind = kinds.field(name).type
        made[name] = _texts(values) if kind == pa.string() else _numbers(np.array(values, "<f8"), kind)
    metadata = {key: "\n".join(names)} if rows else {}
    return pa.table([made[name] for name in kinds.names], schema=kinds.with_metadata(metadata))


# Built from buffers: the first call of `pa.array` imports pandas, a third of a second.


def _numbers(values: "np.ndarray[Any, Any]", kind: "pa.DataType") -> "pa.Array":
    """float64 [n] as numbers, or as times given in epoch seconds; int32 [n] as they are."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        values = np.round(values * 1e6).astype("<i8")
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _offsets(sizes: Iterable[int]) -> "np.ndarray[Any, np.dtype[np.int32]]":
    return np.concatenate([[0], np.cumsum(np.fromiter(sizes, np.int64))]).astype("<i4")


def _texts(values: Iterable[str]) -> "pa.Array":
    import pyarrow as pa

    encoded = list(map(str.encode, values))
    offsets = pa.py_buffer(_offsets(map(len, encoded)))
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, offsets, pa.py_buffer(b"".join(encoded))])


def _vectors(blobs: Sequence[bytes]) -> "pa.Array":
    import pyarrow as pa

    values = _numbers(np.frombuffer(b"".join(blobs), "<f8"), pa.float64())
    offsets = _numbers(_offsets(len(blob) // 8 for blob in blobs), pa.int32())
    return pa.ListArray.from_arrays(offsets, values)


def _maps(maps: Sequence[dict[str, float]]) -> "pa.Array":
    import pyarrow as pa

    keys = _texts(chain.from_iterable(maps))
    values = np.fromiter(chain.from_iterable(one.values() for one in maps), "<f8")
    return pa.MapArray.from_arrays(
        _numbers(_offsets(map(len, maps)), pa.int32()), keys, _numbers(values, pa.float64())
    )


def write_segment(path: Path, table: "pa.Table") -> None:
    """Put a segment in place in one step, with page checksums."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = schema()
    texts = [field.name for field in fields if field.type == pa.string()]
    numbers = [field.name for field in fields if field.type == pa.float64()]
    # texts repeat; numbers hardly do, and compress best with bytes of equal weight side by side
    with replace_file(path) as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=[*texts, "base_probabilities.key_value.key"],
            use_byte_stream_split=[*numbers, "features.list.element", "base_probabilities.key_value.value"],
        )


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

    parts = _parts(directory, lambda part: _select(part, start, end, symbol, model_version))
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


def _parts(directory: Path, select: "Callable[[pa.Table], pa.Table]") -> "list[pa.Table]":
    """What `select` takes of each file, oldest first."""
    known: dict[Path, pa.Table] = {}
    for _ in range(_LOOKS):
        files = standing(log_files(directory))
        try:
            for file in files:
                if file.path not in known:
                    known[file.path] = select(_read(file))
        except FileNotFoundError:
            # sealed, merged or removed meanwhile: what takes its place is there
            continue
        return [known[file.path] for file in files]
    raise ArtifactError(f"{directory} changes faster than it can be read: read a copy of it")


def _read(file: LogFile) -> "pa.Table":
    """FileNotFoundError when it is gone; ArtifactError when it is damaged."""
    if file.is_segment:
        return read_segment(file.path)
    try:
        return journal_table(scan(file.path))
    except msgspec.DecodeError as error:
        raise ArtifactError(_ANOTHER_VERSION.format(path=file.path, error=error)) from error


def read_segment(path: Path) -> "pa.Table":
    """A segment's rows; FileNotFoundError when it is gone, ArtifactError when it is damaged."""
    table = _read_columns(path)
    if not table.schema.equals(schema(), check_metadata=False):
        raise ArtifactError(_ANOTHER_VERSION.format(path=path, error="another schema"))
    return table


def symbols_of(path: Path) -> list[str]:
    """The symbol of each row of a segment; the errors of `read_segment`."""
    return [str(symbol) for symbol in _read_columns(path, ["symbol"])["symbol"].to_pylist()]


def rows_of(path: Path) -> int:
    """How many rows a segment has; the errors of `read_segment`."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _read_columns(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A segment's columns, all by default; the errors of `read_segment`."""
    with _opened(path) as file:
        return file.read(columns)


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}): restore it from a backup, or delete it to lose its predictions"
        ) from error


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

"""Predictions as columns, against a table made row by row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import ArtifactError
from monitoring import prediction_table
from monitoring.journal import Journal
from monitoring.prediction_table import (
    Prediction,
    feature_set,
    journal_table,
    read,
    read_segment,
    schema,
    to_table,
    write_segment,
)

NAMES = ["rsi_14", "größe", "gap"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# a NaN with a payload: bits are kept, not only values
ODD_NAN = np.array([0x7FF80000DEADBEEF], "<u8").view("<f8")[0]


def _mixed(count: int) -> list[Prediction]:
    rng = np.random.default_rng(3)
    bases = [
        {"logistic": 0.25, "lstm": 0.75},
        {},
        {"Übermodell": float("nan")},
        {"b": 1.0, "a": 0.0, "": -0.0},
    ]
    rows = []
    for i in range(count):
        vector = rng.normal(size=len(NAMES))
        vector[i % 3] = (np.nan, ODD_NAN, -0.0, np.inf)[i % 4]
        open_, high, low, close, volume, probability, confidence = rng.normal(size=7).tolist()
        rows.append(
            Prediction(
                ("sp500", "中国平安", "", "BTC-USD")[i % 4],
                1.2e9 + 3600.25 * i,
                -1.5 + 1e-6 * i,
                "sp500-1d",
                str(1 + i // 5),
                ("", "abc" * 20)[i % 2],
                probability,
                confidence,
                ("hold", "buy", "strong_sell")[i % 3],
                bases[i % len(bases)],
                vector.astype("<f8").tobytes(),
                open_,
                high,
                low,
                close,
                volume,
                float(("nan", "0.3")[i % 2]),
            )
        )
    return rows


def _row_by_row(names: list[str], rows: list[Prediction]) -> pa.Table:
    """The same in the plainest way: a dict per row."""
    dicts = []
    for row in rows:
        made = msgspec.structs.asdict(row)
        for time in ("bar_time", "logged_at"):
            made[time] = EPOCH + timedelta(microseconds=round(made[time] * 1e6))
        made["features"] = [float(x) for x in np.frombuffer(row.features, "<f8")]
        made["base_probabilities"] = list(row.base_probabilities.items())
        dicts.append({**made, "feature_set": feature_set(names)})
    return pa.Table.from_pylist(dicts, schema=schema())


def _bits(table: pa.Table) -> bytes:
    return b"".join(np.array(chunk.flatten()).tobytes() for chunk in table["features"].chunks)


def _journal(path: Path, names: list[str], rows: list[Prediction]) -> list[bytes]:
    payloads = [msgspec.msgpack.encode(names), *map(msgspec.msgpack.encode, rows)]
    journal = Journal(path)
    journal.append(*payloads)
    journal.close()
    return payloads


@pytest.mark.parametrize("count", [0, 1, 6, 7, 20])
def test_columns_are_those_made_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(prediction_table, "_BATCH", 7)
    rows = _mixed(count)
    payloads = _journal(tmp_path / "journal-00000001.wal", NAMES, rows)
    wanted = _row_by_row(NAMES, rows)
    write_segment(tmp_path / "x.parquet", to_table(NAMES, rows))
    for made in (to_table(NAMES, rows), journal_table(payloads), read_segment(tmp_path / "x.parquet")):
        made.validate(full=True)
        assert made.schema.equals(wanted.schema, check_metadata=False)
        # str: NaN equals NaN
        assert str(made.to_pylist()) == str(wanted.to_pylist())
        assert _bits(made) == b"".join(row.features for row in rows)
        names = {feature_set(NAMES).encode(): "\n".join(NAMES).encode()} if rows else None
        assert (made.schema.metadata or None) == names
    assert str(read(tmp_path).to_pylist()) == str(wanted.to_pylist())


def test_segments_of_earlier_versions_are_read(tmp_path: Path) -> None:
    rows = _mixed(9)
    pq.write_table(_row_by_row(NAMES, rows), tmp_path / "segment-00000001.parquet", compression="zstd")
    assert str(read(tmp_path).to_pylist()) == str(_row_by_row(NAMES, rows).to_pylist())


def test_every_page_has_a_checksum_that_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "segment-00000001.parquet"
    write_segment(path, to_table(NAMES, _mixed(500)))
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        chunks = [group.column(i) for i in range(group.num_columns)]
    data = path.read_bytes()
    for chunk in chunks:
        flipped = bytearray(data)
        # the last byte of a column's last page
        start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        flipped[start + chunk.total_compressed_size - 1] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ArtifactError, match="is damaged"):
            read(tmp_path)


def test_a_journal_of_another_version_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal-00000001.wal")
    journal.append(msgspec.msgpack.encode(NAMES), msgspec.msgpack.encode(["sp500", 1.0]))
    journal.close()
    with pytest.raises(ArtifactError, match=r"journal-00000001\.wal was written by another version"):
        read(tmp_path)

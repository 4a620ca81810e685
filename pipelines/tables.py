"""Tables between stages: parquet with page checksums, equal bytes for equal tables."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ArtifactError
from core.files import replace_file


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a frame with its index in one step."""
    write_blocks(path, [table])


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame]) -> None:
    """Write frames of consecutive rows, one at least, as one table in one step; a row group holds a frame.

    One frame is held at a time, so memory does not grow with the table.
    """
    rest = iter(blocks)
    table = pa.Table.from_pandas(next(rest))
    options = {"compression": "zstd", "write_page_checksum": True}
    with replace_file(path) as file, pq.ParquetWriter(file, table.schema, **options) as writer:
        writer.write_table(table)
        for block in rest:
            table = pa.Table.from_pandas(block, schema=table.schema)
            writer.write_table(table)


def read_table(path: Path) -> pd.DataFrame:
    """Read a frame back, verifying every page; ArtifactError when it is missing or damaged."""
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist: run `dvc repro`") from error
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error

"""Tables written frame by frame, with page checksums."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.files import replace_file


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame]) -> None:
    """Write frames of consecutive rows, one at least, as one parquet table in one step.

    A row group holds a frame. One frame is held at a time, so memory does not grow with the table; equal
    frames give equal bytes.
    """
    rest = iter(blocks)
    table = pa.Table.from_pandas(next(rest))
    # floats hardly repeat: a dictionary of them costs time and space, at every read too
    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": repeating}
    with replace_file(path) as file, pq.ParquetWriter(file, table.schema, **options) as writer:
        writer.write_table(table)
        for block in rest:
            table = pa.Table.from_pandas(block, schema=table.schema)
            writer.write_table(table)

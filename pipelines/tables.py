"""Tables between stages: parquet with page checksums, equal bytes for equal tables."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ArtifactError
from core.files import write_bytes


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a frame with its index in one step."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table), sink, compression="zstd", write_page_checksum=True)
    write_bytes(path, sink.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a frame back, verifying every page; ArtifactError when it is missing or damaged."""
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist: run `dvc repro`") from error
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error

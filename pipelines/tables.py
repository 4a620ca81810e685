"""Tables between stages: parquet with page checksums, equal bytes for equal tables."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ArtifactError
from data.tables import write_blocks

__all__ = ["read_table", "write_blocks", "write_table"]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a frame with its index in one step."""
    write_blocks(path, [table])


def read_table(path: Path) -> pd.DataFrame:
    """Read a frame back, verifying every page; ArtifactError when it is missing or damaged."""
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist: run `dvc repro`") from error
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error

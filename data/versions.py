"""One hash that names the content of a frame of bars."""

import hashlib

import numpy as np
import pandas as pd

_FORMAT = b"bellwether bars 1\n"


def bars_hash(bars: pd.DataFrame) -> str:
    """Hex SHA-256 over row count, index (int64 ns UTC) and every column's name and float64 bytes.

    Depends on the values alone: not on the file they came from, its compression, or library versions. Bytes
    are little-endian; 0.0 and -0.0 differ.
    """
    digest = hashlib.sha256(_FORMAT)
    digest.update(np.int64(len(bars)).astype("<i8").tobytes())
    digest.update(pd.DatetimeIndex(bars.index).as_unit("ns").asi8.astype("<i8").tobytes())
    for name in bars.columns:
        digest.update(f"{name}\n".encode())
        digest.update(np.ascontiguousarray(bars[name].to_numpy(), dtype="<f8").tobytes())
    return digest.hexdigest()

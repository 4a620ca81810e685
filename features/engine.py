"""The one compiled function: runs a program over bars, in blocks, for batch and stream alike.

numba caches it on disk under a digest of every source file that it is made of, so an edited operator is
never answered from an old cache.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from features.dispatch import step

COLUMNS = ("open", "high", "low", "close", "volume", "time")
OP, OUT, STATE, EMIT, WARMUP, FIRST_INPUT = range(6)


def source_digest() -> str:
    """SHA-256 over the engine's sources, kernels included."""
    folder = Path(__file__).parent
    files = [folder / "engine.py", folder / "dispatch.py", *sorted((folder / "operators").glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _compile(digest: str) -> Callable[..., None]:
    @numba.njit(error_model="numpy", cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def run(code: Any, params: Any, buf: Any, work: Any, state: Any, columns: Any, out: Any) -> None:
        if not digest:  # the closure's values are part of numba's cache key
            return
        total, chunk = columns.shape[1], buf.shape[1]
        start = 0
        while start < total:
            n = min(chunk, total - start)
            for column in range(columns.shape[0]):
                for i in range(n):
                    buf[column, i] = columns[column, start + i]
            bars = int(state[0])
            for k in range(code.shape[0]):
                step(code, params, k, buf, n, state, work)
                feature = code[k, EMIT]
                if feature >= 0:
                    for i in range(n):
                        value = buf[code[k, OUT], i]
                        defined = bars + i >= code[k, WARMUP] and math.isfinite(value)
                        out[feature, start + i] = value if defined else math.nan
            state[0] = bars + n
            start += n

    return run  # type: ignore[no-any-return]


@functools.cache
def runner() -> Callable[..., None]:
    """The compiled `run(code, params, buf, work, state, columns, out)`.

    code int64 [K, 9] (a row per operation, see the column numbers above), params float64 [K, 2],
    buf float64 [slots, chunk] whose first rows receive `columns` [6, N], work float64 [WORK_ROWS * chunk],
    state float64 (state[0] counts bars), out float64 [F, N]: NaN before a feature's warm-up and in place of
    any infinity.
    """
    return _compile(source_digest())

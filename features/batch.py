"""Features of a whole frame of bars."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.bars import check_bars
from core.errors import DataError
from features.catalogue import compiled
from features.layout import COLUMNS
from features.program import Program

Floats = npt.NDArray[np.float64]
# rows per block: the working set of the catalogue then fits the second-level cache
CHUNK = 1024
# bars per frame of `build_blocks`: some 30 MB of the largest catalogue
BLOCK = 16 * CHUNK
_NANOSECONDS = 1_000_000_000


def build(bars: pd.DataFrame, definitions: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Features stamped at bar close: float64 [N, F], same index, a column per feature.

    `bars` is canonical (`core.bars.check_bars`) and not changed; `definitions` maps names to expression
    texts, None is all of catalogue `full`. Row t depends on rows <= t alone and equals, bit for bit, what
    `features.Stream` returns for that bar. NaN before warm-up. DataError names the first bar that a stream
    would refuse. Memory: the result, one copy of the bars, and a few MB.
    """
    program = compiled(definitions)
    columns = bar_columns(bars)
    out = np.empty((len(program.names), len(bars)))
    program.run(columns, program.initial_state.copy(), program.buffers(CHUNK), out)
    return _frame(program, out, bars.index)


def build_blocks(
    bars: pd.DataFrame, definitions: Mapping[str, str] | None = None, *, rows: int = BLOCK
) -> Iterator[pd.DataFrame]:
    """The frame of `build` in frames of `rows` consecutive bars, the last one shorter: the same bits.

    Memory does not grow with the number of bars. DataError for an unsound bar comes when its frame is due;
    no bars at all give one frame without rows.
    """
    program = compiled(definitions)
    state, buffers = program.initial_state.copy(), program.buffers(CHUNK)
    for start in range(0, max(len(bars), 1), rows):
        known = min(start, 1)  # the bar before, so that the order of times is checked across frames
        part = bars.iloc[start - known : start + rows]
        try:
            columns = bar_columns(part)[:, known:]
        except DataError:
            bar_columns(bars)  # says the same with the row counted from the first bar
            raise
        out = np.empty((len(program.names), columns.shape[1]))
        program.run(columns, state, buffers, out)
        yield _frame(program, out, part.index[known:])


def _frame(program: Program, out: Floats, index: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame(out.T, index=index, columns=list(program.names), copy=False)


def bar_columns(bars: pd.DataFrame) -> Floats:
    """The engine's input [6, N]: open, high, low, close, volume and the close time in epoch seconds."""
    check_bars(bars)
    columns = np.empty((len(COLUMNS), len(bars)))
    for row, name in enumerate(COLUMNS[:-1]):
        columns[row] = bars[name].to_numpy()
    columns[-1] = epoch_seconds(bars.index)
    opened, high, low, close = columns[:4]
    bad = (low > opened) | (opened > high) | (low > close) | (close > high)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"row {row} at {bars.index[row]}: open {opened[row]}, high {high[row]}, low {low[row]}, "
            f"close {close[row]}: low <= open, close <= high must hold; validate the bars first"
        )
    return columns


def epoch_seconds(index: pd.DatetimeIndex) -> Floats:
    """Seconds since 1970 UTC [N]; whole seconds are exact."""
    nanoseconds = index.as_unit("ns").asi8
    return np.asarray(nanoseconds // _NANOSECONDS + (nanoseconds % _NANOSECONDS) / _NANOSECONDS)

"""Bars from a user's own CSV or parquet file."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.bars import COLUMNS
from core.errors import DataError
from data.sources import RawBars, SourceRequest
from data.sources.headers import find_roles
from data.sources.times import Stamps, Times, between, parse_times, stamp

_PARQUET = {".parquet", ".pq", ".parq"}


class CsvFile:
    """A CSV (comma, semicolon, tab or bar; also .gz) or parquet file with the usual header spellings.

    Rows are counted from 1 below the header. A file that runs from new to old is turned round; any other
    disorder is left for `data.quality`. An adjusted close scales open, high and low by its ratio to the
    close, and takes the close's place.
    """

    def fetch(self, request: SourceRequest) -> RawBars:
        """Read `request.path`; DataError names the file with the value, the rule and the remedy."""
        path = _existing(request.path)
        try:
            bars, stamps = _to_bars(_read(path), request)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return RawBars(
            between(bars, request.start, request.until),
            symbol=request.symbol,
            timeframe=stamps.timeframe,
            calendar=stamps.calendar,
            description=f"{stamps.timeframe} bars of {request.symbol} from {path.name}",
        )


def _existing(path: Path | str | None) -> Path:
    if path is None or not str(path):
        raise DataError("data.path is empty: source csv needs the path of a CSV or parquet file")
    if not Path(path).is_file():
        raise DataError(f"data.path {path} is not a file: give the path of a CSV or parquet file")
    return Path(path)


def _read(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise DataError("the file is empty: it needs a header line and one line per bar")
    table = _read_parquet(path) if path.suffix.lower() in _PARQUET or magic == b"PAR1" else _read_csv(path)
    if table.empty and len(table.columns):
        find_roles(table.columns)
    if table.empty:
        raise DataError("the file has no rows: it needs one line per bar below the header")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read().to_pandas()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"not a readable parquet file ({_first_line(error)}): write it again") from error
    if isinstance(table.index, pd.RangeIndex):
        return table
    return table.reset_index(names=[n or "index" for n in table.index.names])


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # pandas only warns when it drops the surplus fields of a row
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=_separator(path),
                float_precision="round_trip",
                encoding="utf-8-sig",
                index_col=False,
                low_memory=False,
                skipinitialspace=True,
            )
    except pd.errors.EmptyDataError as error:
        raise DataError("the file is empty: it needs a header line and one line per bar") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"rows differ in length ({_first_line(error)}): mend that line") from error
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"not readable as text ({_first_line(error)}): save it as UTF-8 CSV") from error


def _separator(path: Path) -> str:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        header = str(file.readline())
    return max(",;\t|", key=header.count)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _to_bars(table: pd.DataFrame, request: SourceRequest) -> tuple[pd.DataFrame, Stamps]:
    roles = find_roles(table.columns)
    times, opening = _times(table, roles)
    stamps = stamp(times, request.timeframe, request.calendar, opening=opening)
    bars = pd.DataFrame({name: _numbers(table[roles[name]]) for name in COLUMNS})
    if "adjusted" in roles:
        bars = _adjusted(bars, _numbers(table[roles["adjusted"]]))
    bars.index = stamps.closes
    newest_first = len(bars) > 1 and bool((np.diff(stamps.closes.asi8) < 0).all())
    return (bars[::-1] if newest_first else bars), stamps


def _times(table: pd.DataFrame, roles: dict[str, object]) -> tuple[Times, bool]:
    """Times of the rows, and whether they are bar opens."""
    if "close_time" in roles:
        return parse_times(table[roles["close_time"]]), False
    if "open_time" in roles:
        return parse_times(table[roles["open_time"]]), True
    if "date" in roles and "time" in roles:
        day, clock = (table[roles[name]].astype("string").str.strip() for name in ("date", "time"))
        return parse_times(day.str.cat(clock, sep=" ")), False
    return parse_times(table[roles["date" if "date" in roles else "time"]]), False


def _numbers(column: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Column as float64; an empty cell is NaN, which the quality rules judge."""
    numbers = pd.to_numeric(column, errors="coerce")
    bad = (numbers.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{column.name} {column.iloc[row]!r} in row {row + 1} is not a number: write plain digits with a "
            "decimal point, or leave the cell empty"
        )
    return np.asarray(numbers, dtype="float64")


def _adjusted(bars: pd.DataFrame, adjusted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pd.DataFrame:
    """Scale prices by adjusted/close.

    Written as adjusted · (price/close): rounding is monotone, so high >= close stays true to the last bit.
    A row whose close has no ratio stays as written, so that the gate names the close and not the others.
    """
    close = bars["close"].to_numpy()
    usable = np.isfinite(close) & (close > 0)
    ratios = {name: bars[name].to_numpy() / np.where(usable, close, 1.0) for name in ("open", "high", "low")}
    scaled = {name: np.where(usable, adjusted * ratio, bars[name]) for name, ratio in ratios.items()}
    return bars.assign(**scaled, close=np.where(usable, adjusted, close))

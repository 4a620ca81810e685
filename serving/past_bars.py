"""Bars of the past, from parquet: `python -m serving.past_bars log DIRECTORY`, or `stored ROOT TIMEFRAME`.

A process of its own, so that the service never holds pyarrow in memory. Prints msgpack: a list of rows
(symbol, epoch seconds, open, high, low, close, volume), in order of time per symbol.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from core.errors import ArtifactError, BellwetherError
from core.settings import child_environment
from monitoring.prediction_table import read
from serving.bar import Bar

COLUMNS = ("open", "high", "low", "close", "volume")
# Far beyond any warm-up; older bars have no weight left.
NEWEST = 20_000
_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parent.parent


def logged(directory: Path) -> list[Bar]:
    """Bars of a prediction log; ArtifactError when it cannot be read."""
    return _ask("log", str(directory.absolute()))


def stored(root: Path, timeframe: str) -> list[Bar]:
    """The newest 20,000 stored bars of every symbol that has `timeframe` under `root`."""
    return _ask("stored", str(root.absolute()), timeframe)


def stored_symbols(root: Path, timeframe: str) -> list[str]:
    """Symbols with stored bars of `timeframe`: directories `root`/<symbol>/<timeframe>."""
    return sorted(unquote(path.parent.name) for path in root.glob(f"*/{timeframe}") if path.is_dir())


def _ask(*arguments: str) -> list[Bar]:
    command = [sys.executable, "-m", "serving.past_bars", *arguments]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=child_environment(), capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(f"bars of {arguments[1]} could not be read ({error})") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ArtifactError(f"bars of {arguments[1]} could not be read: {''.join(last)[:500]}")
    return [Bar(*row) for row in msgspec.msgpack.decode(done.stdout)]


def _read_log(directory: Path) -> Iterator[tuple[Any, ...]]:
    table = read(directory).sort_by("bar_time")
    times = [moment.timestamp() for moment in table["bar_time"].to_pylist()]
    columns = [table[name].to_pylist() for name in COLUMNS]
    yield from zip(table["symbol"].to_pylist(), times, *columns, strict=True)


def _read_stored(root: Path, timeframe: str) -> Iterator[tuple[Any, ...]]:
    for symbol in stored_symbols(root, timeframe):
        rows = [
            row for file in _years(root, symbol, timeframe) for row in _read_year(file, symbol, timeframe)
        ]
        yield from rows[-NEWEST:]


def _years(root: Path, symbol: str, timeframe: str) -> list[Path]:
    places = [path for path in root.glob(f"*/{timeframe}") if unquote(path.parent.name) == symbol]
    return sorted(file for place in places for file in place.glob("*.parquet"))


def _read_year(path: Path, symbol: str, timeframe: str) -> Iterator[tuple[Any, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        owner = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        if (owner.get("symbol"), owner.get("timeframe")) != (symbol, timeframe):
            raise ArtifactError(f"{path} is not of {symbol} {timeframe}: run the ingest stage again")
        times = table["timestamp"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_pylist()
        columns = [table[name].to_pylist() for name in COLUMNS]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): restore it with `dvc checkout`") from error
    yield from ((symbol, time / 1e9, *values) for time, *values in zip(times, *columns, strict=True))


def main(arguments: list[str]) -> None:
    """Print what is asked for; one line on stderr and exit code 1 when it cannot be read."""
    kind, place = arguments[0], Path(arguments[1])
    try:
        rows = list(_read_log(place) if kind == "log" else _read_stored(place, arguments[2]))
    except BellwetherError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.buffer.write(msgspec.msgpack.encode(rows))


if __name__ == "__main__":
    main(sys.argv[1:])

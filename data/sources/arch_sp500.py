"""S&P 500 daily bars, 1999-01-04 to 2018-12-31, from the file that ships in the `arch` package."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from core.bars import COLUMNS
from core.calendar import get_calendar
from core.errors import DataError
from core.timeframe import Timeframe
from data.sources import RawBars, SourceRequest
from data.sources.times import between

_CALENDAR = "XNYS"


class ArchSp500:
    """The index as published: 5031 sessions; its adjusted close equals its close."""

    def fetch(self, request: SourceRequest) -> RawBars:
        """Bars stamped at the New York close; symbol, timeframe and calendar of the request do not matter."""
        table = pd.read_csv(_file(), float_precision="round_trip")
        dates = pd.DatetimeIndex(pd.to_datetime(table.pop("Date"), format="%m/%d/%Y"))
        bars = table.rename(columns=str.lower)[list(COLUMNS)].astype("float64")
        bars.index = get_calendar(_CALENDAR).session_closes(dates).as_unit("ns").rename("timestamp")
        bars = between(bars, request.start, request.until)
        return RawBars(
            bars,
            symbol=request.symbol,
            timeframe=Timeframe(86400),
            calendar=_CALENDAR,
            description="S&P 500 daily bars shipped in the arch package",
        )


def _file() -> Path:
    """Locate the data file without importing `arch`, which would import statsmodels and scipy."""
    spec = find_spec("arch")
    if spec is None or spec.origin is None:
        raise DataError("package 'arch' is not installed: run `make run`, which installs requirements.lock")
    path = Path(spec.origin).parent / "data" / "sp500" / "sp500.csv.gz"
    if not path.is_file():
        raise DataError(f"{path} is missing from this release of arch: install the locked requirements")
    return path

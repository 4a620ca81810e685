"""Sources by name, and the S&P 500 that ships in `arch`."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from core.bars import check_bars
from core.errors import ConfigurationError, DataError
from data.sources import SourceRequest, open_source, source_names


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'yahoo' is unknown: use one of arch_sp500, csv"):
        open_source("yahoo")


@pytest.mark.parametrize("name", source_names())
def test_every_source_opens(name: str) -> None:
    assert callable(open_source(name).fetch)


def test_sp500_is_canonical_and_stamped_at_the_new_york_close(sp500: pd.DataFrame) -> None:
    check_bars(sp500)
    assert len(sp500) == 5031
    assert sp500.index[0] == pd.Timestamp("1999-01-04 21:00", tz="UTC")
    assert sp500.index[-1] == pd.Timestamp("2018-12-31 21:00", tz="UTC")
    assert pd.Timestamp("2018-07-03 17:00", tz="UTC") in sp500.index  # early close, daylight saving


def test_sp500_equals_the_package_s_own_loader(sp500: pd.DataFrame) -> None:
    from arch.data import sp500 as published

    table = published.load()
    np.testing.assert_allclose(sp500["close"], table["Adj Close"], rtol=0, atol=1e-9)


def test_opening_sp500_does_not_import_arch() -> None:
    code = (
        "import sys; from data.sources import SourceRequest, open_source; "
        "open_source('arch_sp500').fetch(SourceRequest('x')); "
        "sys.exit(any(m in sys.modules for m in ('arch', 'statsmodels', 'great_expectations')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("start", "until", "first", "last"),
    [
        (None, "2007-06-29", "1999-01-04", "2007-06-29"),
        ("2007-07-02", None, "2007-07-02", "2018-12-31"),
        ("2007-06-30", "2007-07-08", "2007-07-02", "2007-07-06"),
        (None, "2007-06-29T19:59:59Z", "1999-01-04", "2007-06-28"),
        ("2007-06-29T20:00:00Z", None, "2007-06-29", "2018-12-31"),
    ],
)
def test_start_and_until_are_inclusive(start: str | None, until: str | None, first: str, last: str) -> None:
    bars = open_source("arch_sp500").fetch(SourceRequest("sp500", start=start, until=until)).bars
    assert [str(t.date()) for t in bars.index[[0, -1]]] == [first, last]


def test_a_span_without_bars_names_what_there_is() -> None:
    with pytest.raises(DataError, match=r"no bars from 2030-01-01 .* has 1999-01-04 .* to 2018-12-31"):
        open_source("arch_sp500").fetch(SourceRequest("sp500", start="2030-01-01"))

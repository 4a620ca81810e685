"""A user's own file: spellings, times, adjusted close, and every way it can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.bars import COLUMNS, check_bars
from core.errors import DataError
from data.sources import RawBars, SourceRequest, open_source

Write = Callable[[str], Path]
OHLCV = "1.0,3.0,0.5,2.0,10"


def fetch(path: Path | str | None, **request: str) -> RawBars:
    return open_source("csv").fetch(SourceRequest("GOOG", path, **request))


def test_daily_bare_dates_are_stamped_at_the_session_close(write_csv: Write) -> None:
    text = "Date,Open,High,Low,Close,Volume\n2004-11-24,1,3,0.5,2,10\n2004-11-26,2,3,1,2.5,0\n"
    raw = fetch(write_csv(text + "2004-11-29,2,3,1,2.5,7\n2004-11-30,2,3,1,2.5,7\n2004-12-01,2,3,1,2.5,7\n"))
    check_bars(raw.bars)
    assert (str(raw.timeframe), raw.calendar) == ("1d", "XNYS")
    # the Friday after Thanksgiving closes early
    assert [f"{t:%d %H:%M}" for t in raw.bars.index[:3]] == ["24 21:00", "26 18:00", "29 21:00"]
    assert raw.bars.iloc[0].to_list() == [1, 3, 0.5, 2, 10]


@pytest.mark.parametrize(
    "header",
    [
        "timestamp,open,high,low,close,volume",
        "Datetime,Open,High,Low,Close,Volume",
        "TIME,OPEN,HIGH,LOW,CLOSE,VOL",
        "\ufeffDate;Open;High;Low;Close;Volume",
        "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>",
        "ts, o, h, l, c, v",
    ],
)
def test_usual_spellings(write_csv: Write, header: str) -> None:
    separator = next(s for s in ";\t," if s in header)
    rows = ["2024-01-02 10:00:00," + OHLCV, "2024-01-02 11:00:00," + OHLCV]
    bars = fetch(write_csv("\n".join([header, *(r.replace(",", separator) for r in rows)]))).bars
    assert list(bars.columns) == list(COLUMNS)
    assert bars.index[0] == pd.Timestamp("2024-01-02 10:00", tz="UTC")
    assert bars.iloc[1].to_list() == [1.0, 3.0, 0.5, 2.0, 10.0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-01-02 10:00:00", "2024-01-02 11:00:00"),
        ("2024-01-02T10:00:00Z", "2024-01-02T11:00:00Z"),
        ("2024-01-02T05:00:00-05:00", "2024-01-02T06:00:00-05:00"),
        ("2024.01.02 10:00", "2024.01.02 11:00"),
        ("2024/01/02 10:00", "2024/01/02 11:00"),
        ("1704189600", "1704193200"),
        ("1704189600.0", "1704193200.0"),
        ("1704189600000", "1704193200000"),
        ("1704189600000000", "1704193200000000"),
        ("1704189600000000000", "1704193200000000000"),
        ("1704189599999", "1704193199999"),
    ],
)
def test_times_however_written(write_csv: Write, first: str, second: str) -> None:
    text = f"timestamp,open,high,low,close,volume\n{first},{OHLCV}\n{second},{OHLCV}\n"
    index = fetch(write_csv(text)).bars.index
    assert list(index) == [
        pd.Timestamp("2024-01-02 10:00", tz="UTC"),
        pd.Timestamp("2024-01-02 11:00", tz="UTC"),
    ]


def test_open_times_become_closes(write_csv: Write) -> None:
    text = f"Open time,Open,High,Low,Close,Volume\n1704189600000,{OHLCV}\n1704193200000,{OHLCV}\n"
    assert fetch(write_csv(text)).bars.index[0] == pd.Timestamp("2024-01-02 11:00", tz="UTC")


@pytest.mark.parametrize(
    ("dates", "calendar", "close"),
    [
        (("20240102", "20240103"), "XNYS", "2024-01-02 21:00"),
        (("2024-07-02 00:00:00-04:00", "2024-07-03 00:00:00-04:00"), "XNYS", "2024-07-02 20:00"),
        (("2024-07-02T00:00:00.000-0400", "2024-07-03T00:00:00.000-0400"), "XNYS", "2024-07-02 20:00"),
        (("2024-01-01T00:00:00Z", "2024-01-08T00:00:00Z"), "XNYS", "2024-01-01 00:00"),
        (("2024-01-02", "2024-01-03"), "24/7", "2024-01-03 00:00"),
        (("2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"), "24/7", "2024-01-02 00:00"),
    ],
)
def test_dates_of_daily_bars(write_csv: Write, dates: tuple[str, str], calendar: str, close: str) -> None:
    text = "date,open,high,low,close,volume\n" + "".join(f"{d},{OHLCV}\n" for d in dates)
    assert fetch(write_csv(text), calendar=calendar).bars.index[0] == pd.Timestamp(close, tz="UTC")


def test_date_and_time_in_two_columns(write_csv: Write) -> None:
    head = "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\n"
    text = f"{head}2024.01.02,10:00,{OHLCV}\n2024.01.02,10:05,{OHLCV}\n"
    raw = fetch(write_csv(text))
    assert str(raw.timeframe) == "5m"
    assert raw.bars.index[0] == pd.Timestamp("2024-01-02 10:00", tz="UTC")


def test_adjusted_close_scales_the_bar(write_csv: Write) -> None:
    text = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2024-01-02,10,12,8,11,5.5,100\n2024-01-03,11,11,11,11,11,0\n2024-01-04,1,3,1,3,0.7,0\n"
    )
    bars = fetch(write_csv(text)).bars
    np.testing.assert_allclose(bars.iloc[0], [5, 6, 4, 5.5, 100], rtol=1e-15)
    assert bars.iloc[1].to_list() == [11, 11, 11, 11, 0]
    assert (bars["high"] >= bars["close"]).all()
    assert bars["close"].iloc[2] == 0.7


@pytest.mark.parametrize("close", ["", "0", "-3"])
def test_a_close_that_gives_no_ratio_is_the_only_price_at_fault(write_csv: Write, close: str) -> None:
    head = "Date,Open,High,Low,Close,Adj Close,Volume\n"
    text = f"{head}2024-01-02,10,12,8,11,5.5,100\n2024-01-03,10,12,8,{close},5.5,100\n"
    bad = fetch(write_csv(text)).bars.iloc[1]
    assert bad[["open", "high", "low"]].to_list() == [10, 12, 8]
    assert not bad["close"] > 0


def test_newest_first_is_turned_round_and_other_disorder_is_left(write_csv: Write) -> None:
    head = "timestamp,open,high,low,close,volume\n"
    rows = [f"2024-01-02 1{i}:00:00,{OHLCV}\n" for i in range(4)]
    assert fetch(write_csv(head + "".join(rows[::-1]))).bars.index.is_monotonic_increasing
    mixed = fetch(write_csv(head + "".join(rows[i] for i in (0, 2, 1, 3)))).bars
    assert [t.hour for t in mixed.index] == [10, 12, 11, 13]


def test_an_empty_cell_is_left_for_the_quality_rules(write_csv: Write) -> None:
    text = f"timestamp,open,high,low,close,volume\n2024-01-02 10:00,{OHLCV}\n2024-01-02 11:00,1,,0.5,null,\n"
    assert fetch(write_csv(text)).bars.iloc[1].isna().to_list() == [False, True, False, True, True]


@pytest.mark.parametrize("layout", ["column", "index", "unnamed index"])
def test_parquet_files(tmp_path: Path, make_bars: Callable[..., pd.DataFrame], layout: str) -> None:
    bars = make_bars(30)
    path = tmp_path / "bars.parquet"
    if layout == "column":
        bars.reset_index().to_parquet(path)
    else:
        bars.rename_axis(None if layout == "unnamed index" else "Date").to_parquet(path)
    pd.testing.assert_frame_equal(fetch(path).bars, bars)


def test_gzip(tmp_path: Path, make_bars: Callable[..., pd.DataFrame]) -> None:
    bars = make_bars(30)
    bars.to_csv(tmp_path / "bars.csv.gz")
    pd.testing.assert_frame_equal(fetch(tmp_path / "bars.csv.gz").bars, bars, check_exact=True)


HEAD = "timestamp,open,high,low,close,volume\n"
GOOD = f"2024-01-02 10:00,{OHLCV}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEAD, "no rows"),
        (
            "Date,Open,High,Low,Price\n2024-01-02,1,2,3,4\n",
            r"missing columns close, volume .*found \(Date, Open, High, Low, Price\).*zeros",
        ),
        ("Open,High,Low,Close,Volume\n1,2,3,4,5\n", "missing column timestamp"),
        (HEAD + GOOD + "2024-01-02 11:00,1,abc,0.5,2,10\n", "high 'abc' in row 2 is not a number"),
        (HEAD + GOOD + '2024-01-02 11:00,1,"1,234.5",0.5,2,10\n', "high '1,234.5' in row 2 is not a number"),
        (HEAD + GOOD + f"yesterday,{OHLCV}\n", "time 'yesterday' in row 2 cannot be read: write ISO 8601"),
        (HEAD + GOOD + f",{OHLCV}\n", "in row 2 cannot be read"),
        (HEAD + f"1/4/1999,{OHLCV}\n", "time '1/4/1999' in row 1"),
        (HEAD + f"1704189600,{OHLCV}\n1704193200000,{OHLCV}\n", "time .*1704189600.* in row 1"),
        (HEAD + GOOD + f"2024-01-02 11:00,{OHLCV},7,8\n", "rows differ in length"),
        (HEAD + GOOD, r"1 bar\(s\): a timeframe needs two"),
        (
            "date" + HEAD[9:] + "".join(f"2024-01-{d:02},{OHLCV}\n" for d in (1, 8, 15)),
            "1w bars with dates only",
        ),
    ],
)
def test_what_is_wrong_is_said(write_csv: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        fetch(write_csv(text))
    assert "GOOG.csv" in str(caught.value)


@pytest.mark.parametrize("path", [None, "", "nowhere.csv"])
def test_a_missing_file(path: str | None) -> None:
    with pytest.raises(DataError, match=r"data\.path .*CSV or parquet"):
        fetch(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfe\x00D\x00a")
    with pytest.raises(DataError, match="not readable as text"):
        fetch(path)


def test_corrupt_parquet(tmp_path: Path, make_bars: Callable[..., pd.DataFrame]) -> None:
    path = tmp_path / "bars.parquet"
    make_bars(30).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable parquet file"):
        fetch(path)
    path.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(DataError, match="not a readable parquet file"):
        fetch(path)


@pytest.mark.parametrize(
    ("file", "timeframe", "rows"),
    [
        ("nvda_1d.csv", "1d", 4012),
        ("orcl_1d.csv", "1d", 5036),
        ("eurusd_1h_2017.csv", "1h", 5000),
        ("index_future_1m_2006.csv", "1m", 30889),
    ],
)
def test_published_files(shared_data: Path, file: str, timeframe: str, rows: int) -> None:
    raw = fetch(shared_data / file)
    check_bars(raw.bars)
    assert (str(raw.timeframe), len(raw.bars)) == (timeframe, rows)

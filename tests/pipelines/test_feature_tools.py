"""What `bellwether features` computes, at a size where memory counts."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import features
from core.errors import ConfigurationError, UsageError
from core.settings import Settings
from core.timeframe import Timeframe
from pipelines.feature_tools import Bars, Tools, compute, matching, require_place
from pipelines.params import check, read_tree
from pipelines.tables import read_table

ROOT = Path(__file__).resolve().parents[2]
MANY = {f"far_{n}": f"close / mean(close, {n})" for n in range(2, 82)}


@pytest.fixture
def home() -> Settings:
    return Settings(home=ROOT)


def test_rows_are_counted_while_the_table_grows(sp500: pd.DataFrame, tmp_path: Path) -> None:
    bars = pd.concat([sp500.iloc[:5000].set_axis(times) for times in years(7)])
    tools = Tools(Settings(home=tmp_path), check(read_tree(ROOT / "params.yaml")), MANY)
    counted: list[int] = []
    hourly = Bars(bars, Timeframe(3600), "")
    done = compute(tools, ["far_9", "far_2"], hourly, tmp_path / "out.parquet", counted.append)
    assert sum(counted) == done["rows"] == len(bars)
    assert len(counted) > 1
    chosen = {name: MANY[name] for name in ("far_9", "far_2")}
    expected = features.build(bars, chosen)
    pd.testing.assert_frame_equal(read_table(tmp_path / "out.parquet"), expected, check_freq=False)


def years(count: int) -> list[pd.DatetimeIndex]:
    """Times of 5000 bars each, one stretch after the other."""
    every = pd.date_range("2000-01-01", periods=5000 * count, freq="h", tz="UTC", name="timestamp")
    return [every[start : start + 5000] for start in range(0, len(every), 5000)]


def test_memory_does_not_grow_with_the_bars(tmp_path: Path) -> None:
    """Resident memory of a process that computes 50 thousand bars, then 200 thousand: the table is 128 MB."""
    measured = f"""
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd
from core.settings import Settings
from core.timeframe import Timeframe
from pipelines.feature_tools import Bars, Tools, compute
from pipelines.params import check, read_tree

close = 100 + np.sin(np.arange(200_000) / 50.0)
values = dict(open=close, high=close + 0.1, low=close - 0.1, close=close, volume=close)
index = pd.date_range("2015-01-01", periods=len(close), freq="min", tz="UTC", name="timestamp")
bars = pd.DataFrame(values, index=index)
tools = Tools(Settings(home=Path(sys.argv[1])), check(read_tree(Path("params.yaml"))), {MANY!r})
for rows in (50_000, 200_000):
    compute(tools, [], Bars(bars.iloc[:rows], Timeframe(60), ""), Path(sys.argv[1]) / "out.parquet")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", measured, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    few, many = (int(line) * 1024 for line in done.stdout.split())
    assert many - few < (200_000 - 50_000) * len(MANY) * 8 / 4


def test_another_catalogue_is_looked_at_as_it_comes(home: Settings) -> None:
    own = {"features.exclude": ["rsi_7"], "features.user": {"mine": "close / open"}}
    run = Tools.open(home, own)
    assert "rsi_7" not in run.definitions
    full = Tools.open(home, None, "full")
    assert full.definitions == features.definitions("full")
    added = Tools.open(home, {"features.user.mine": "close / open"}, "full")
    assert list(added.definitions) == [*features.names("full"), "mine"]
    with pytest.raises(ConfigurationError, match=r"features\.catalog: .*did you mean full"):
        Tools.open(home, None, "fulll")


def test_what_is_not_chosen_is_named_with_its_remedy(home: Settings) -> None:
    other = next(name for name in features.names("full") if name not in features.names("core"))
    tools = Tools.open(home, {"features.catalog": "core", "features.exclude": ["rsi_7"]})
    with pytest.raises(UsageError) as caught:
        tools.chosen(["rsi_7", other, "rsi_15", "???"])
    said = str(caught.value)
    for part in (
        "rsi_7: left out by features.exclude",
        f"{other}: no such feature is chosen, catalogue full has it: add --catalog full",
        "rsi_15: no such feature is chosen: did you mean rsi_14",
        "???: no such feature is chosen: `bellwether features` lists them",
    ):
        assert part in said


def test_a_search_reads_names_formulas_groups_and_sources_in_any_case(home: Settings) -> None:
    known = Tools.open(home, {"features.catalog": "core"}).described()
    assert [each.name for each in matching(known, "RSI")] == ["rsi_7", "rsi_14"]
    assert {each.group for each in matching(known, "Calendar")} == {"calendar"}
    assert "adx_9" in {each.name for each in matching(known, "wilder")}
    assert "illiquidity_ratio_20_60" in {each.name for each in matching(known, "Amihud")}
    assert [each.name for each in matching(known, "Volume z-score")] == ["volume_zscore_60"]
    assert [each.name for each in matching(known, "rogers-satchell")] == ["rogers_satchell_20"]
    assert matching(known, "no such thing") == []


@pytest.mark.parametrize("place", ["here", "file/below.parquet"])
def test_a_place_where_no_file_can_be_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"is a directory: give|would lie in it: give"):
        require_place(tmp_path / place)
    require_place(tmp_path / "new" / "folder" / "file.parquet")


def test_bad_rows_that_are_left_out_are_told(home: Settings, sp500: pd.DataFrame, tmp_path: Path) -> None:
    frame = sp500.iloc[:50].reset_index()
    frame.loc[20, "close"] = -1.0
    frame.to_csv(tmp_path / "own.csv", index=False)
    found = Tools.open(home).bars(tmp_path / "own.csv")
    assert len(found.frame) == 49
    assert found.description.endswith(", 1 bad row left out")

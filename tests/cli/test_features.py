"""`bellwether features` on a checkout of parameters, over real bars."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import features
from cli.main import app
from core.errors import BellwetherError, ConfigurationError, DataError, UsageError
from features.catalogue import CATALOGUES

ROOT = Path(__file__).resolve().parents[2]
GAP = "features.user={my_gap: 'open / lag(close, 1) - 1'}"
HOLE = "features.user.hole=log(close - open)"
FETCHED = re.compile(
    r"""(src|href|action)\s*=\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//|@import|<script"""
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the shipped parameters and nothing stored; the user stands elsewhere."""
    place = tmp_path / "home"
    place.mkdir()
    shutil.copyfile(ROOT / "params.yaml", place / "params.yaml")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


@pytest.fixture
def csv(sp500: pd.DataFrame, tmp_path: Path) -> str:
    """A user's file of bars."""
    frame = sp500.iloc[:400].reset_index()
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%m-%d")
    frame.to_csv(tmp_path / "here" / "own.csv", index=False)
    return "own.csv"


def said(*arguments: str, code: int = 0) -> str:
    """What the command prints; a house error is raised as it is."""
    done = CliRunner().invoke(app, ["features", *arguments], env={"COLUMNS": "200"})
    if isinstance(done.exception, BellwetherError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def document(*arguments: str, code: int = 0) -> Any:
    return json.loads(said(*arguments, "--json", code=code))


def test_the_list_is_the_chosen_catalogue_and_the_search_a_part_of_it() -> None:
    assert [row["name"] for row in document()] == features.names("core")
    assert [row["name"] for row in document("RSI")] == ["rsi_7", "rsi_14"]
    assert "2 of 89 features of catalogue core" in said("rsi")


@pytest.mark.parametrize("catalog", CATALOGUES)
def test_another_catalogue_is_listed_as_it_comes(catalog: str) -> None:
    assert [row["name"] for row in document("--catalog", catalog)] == features.names(catalog)
    left_out = document("--catalog", catalog, "--set", f"features.exclude=[{features.names(catalog)[3]}]")
    assert [row["name"] for row in left_out if row["excluded"]] == [features.names(catalog)[3]]


def test_a_search_says_where_else_there_is_something() -> None:
    assert "with --catalog alpha158" in said("KMID2")
    assert "--catalog full" not in said("KMID2")


def test_own_features_are_listed_and_those_left_out_marked() -> None:
    rows = {row["name"]: row for row in document("--set", GAP, "--set", "features.exclude=[rsi_7]")}
    assert rows["my_gap"]["group"] == "user"
    assert rows["my_gap"]["warmup"] == 1
    assert [name for name, row in rows.items() if row["excluded"]] == ["rsi_7"]


def test_one_is_explained_with_an_offline_page(csv: str) -> None:
    found = document("--explain", "rsi_14", "--bars", csv, "--page", "rsi.html")
    assert found["formula"] == "rsi(close, 14)"
    assert found["expanded"] == features.definitions()["rsi_14"]
    assert found["operators"]["wilder(x, window)"].startswith("Wilder's average")
    assert found["statistics"]["missing"] == 0
    assert 0 < found["statistics"]["lowest"] < found["statistics"]["highest"] < 100
    page = Path("rsi.html").read_text()
    assert "<svg" in page
    assert "Wilder 1978" in page
    assert not FETCHED.search(page)
    said("--explain", "rsi_14", "--bars", csv, "--page", "again.html")
    assert Path("again.html").read_text() == page


def test_own_features_are_explained_too(csv: str, home: Path) -> None:
    text = said("--explain", "hole", "--set", HOLE, "--bars", csv)
    assert "log(close - open)" in text
    assert (home / "var" / "features" / "hole.html").exists()


def test_computing_writes_what_build_gives(csv: str, sp500: pd.DataFrame) -> None:
    names = ["my_gap", "rsi_14"]
    done = document(
        "--compute", "out.parquet", "--set", GAP, "--bars", csv, "--name", names[0], "--name", names[1]
    )
    written = pq.read_table(done["file"], page_checksum_verification=True).to_pandas()
    chosen = {"my_gap": "open / delay(close, 1) - 1", "rsi_14": "rsi(close, 14)"}
    pd.testing.assert_frame_equal(written, features.build(sp500.iloc[:400], chosen), check_freq=False)
    assert (done["rows"], done["features"]) == (400, names)


def test_computing_refuses_what_the_bars_are_too_few_for(csv: str) -> None:
    slow = "features.user.slow=mean(close, 401)"
    with pytest.raises(DataError, match=r"400 bars.*slow after 400"):
        said("--compute", "out.parquet", "--set", slow, "--bars", csv)
    assert not Path("out.parquet").exists()


def test_a_clean_check_ends_well(csv: str) -> None:
    assert "nothing is held against any" in said("--check", "--set", GAP, "--bars", csv)


def test_a_check_names_the_offender_and_exits_1(csv: str) -> None:
    slow = "features.user.slow=mean(close, 401)"
    found = document("--check", "--set", HOLE, "--set", slow, "--bars", csv, code=1)
    assert not found["clean"]
    assert {(f["feature"], f["probe"]) for f in found["findings"]} == {
        ("hole", "missing"),
        ("slow", "missing"),
    }
    text = said("--check", "--set", HOLE, "--name", "hole", "--bars", csv, code=1)
    assert "1 of 1 features: hole" in text


def test_a_wrong_expression_is_a_configuration_fault() -> None:
    with pytest.raises(ConfigurationError) as caught:
        said("--check", "--set", "features.user={a: close +, b: foo(close)}")
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["rsi", "--check"], "one of them at a time"),
        (["--check", "--explain", "rsi_14"], "one of them at a time"),
        (["--name", "rsi_14"], "narrows --compute and --check"),
        (["--bars", "x.csv"], "gives data to"),
        (["--page", "x.html"], "add --explain"),
        (["--explain", "rsi_15"], "rsi_15: no such feature"),
        (["--explain", "KMID2"], "KMID2: .*add --catalog alpha158"),
        (["--check", "--name", "rsi_15", "--bars", "own.csv"], "rsi_15: no such feature"),
        (["--compute", "out.csv", "--bars", "own.csv"], r"\.parquet"),
    ],
)
def test_usage_faults(arguments: list[str], rule: str, csv: str) -> None:
    with pytest.raises(UsageError, match=rule):
        said(*arguments)


def test_one_whose_window_exceeds_the_bars_is_explained_as_without_a_value(csv: str) -> None:
    long = "features.user.long=mean(close, 5000) / close"
    found = said("--explain", "long", "--bars", csv, "--set", long)
    assert "none: long has its first after 4999 bars, there are 400" in found

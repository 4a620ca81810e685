"""`bellwether features --universe` over a folder of real bars."""

import functools
import json
import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import features
from cli.main import app
from core.errors import BellwetherError, ConfigurationError, DataError, UsageError
from core.files import directory_hashes
from core.settings import load_settings
from features.probes import differing
from pipelines.feature_tools import Tools
from pipelines.tables import read_table
from pipelines.universe import symbol_bars

ROOT = Path(__file__).resolve().parents[2]
RANK = "features.user={strength: 'cs_rank(log_return(5))', calm: 'mean(cs_zscore(returns), 3)'}"
NAMES = ("--name", "strength", "--name", "calm", "--name", "rsi_14")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sp500: pd.DataFrame) -> Path:
    """Where the user stands: a folder with three symbols, one of them as CSV, besides what is no symbol."""
    (tmp_path / "home").mkdir()
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "home" / "params.yaml")
    folder = tmp_path / "here" / "bars"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    sp500.iloc[:300].to_parquet(folder / "ONE.parquet")
    sp500.iloc[1000:1300].set_axis(sp500.index[:300]).to_parquet(folder / "TWO.parquet")
    frame = sp500.iloc[2000:2200].set_axis(sp500.index[100:300]).reset_index()
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%m-%d")
    frame.to_csv(folder / "THREE.csv", index=False)
    (folder / "notes.txt").write_text("mine")
    return tmp_path / "here"


def said(*arguments: str, code: int = 0) -> str:
    """What the command prints; a house error is raised as it is."""
    done = CliRunner().invoke(app, ["features", *arguments], env={"COLUMNS": "200"})
    if isinstance(done.exception, BellwetherError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_every_file_is_a_symbol_and_they_are_compared(here: Path, sp500: pd.DataFrame) -> None:
    arguments = ("--universe", "bars", "--compute", "out", "--set", RANK, *NAMES, "--processes", "1")
    done: Any = json.loads(said(*arguments, "--json"))
    assert (list(done["symbols"]), done["rows"]) == (["ONE", "THREE", "TWO"], 800)
    assert done["features"] == ["strength", "calm", "rsi_14"]
    frames = {symbol: read_table(here / "out" / facts["file"]) for symbol, facts in done["symbols"].items()}
    alone = features.build(sp500.iloc[:300], {"rsi_14": "rsi(close, 14)"})
    assert differing(frames["ONE"][["rsi_14"]], alone) == []
    strength = pd.concat({symbol: frame["strength"] for symbol, frame in frames.items()}, axis=1)
    assert set(strength.iloc[200].round(3)) == {0.333, 0.667, 1.0}
    assert set(strength.iloc[50].dropna()) == {0.5, 1.0}
    before = directory_hashes(here / "out")
    assert "3 of bars" in said(*arguments)
    assert directory_hashes(here / "out") == before


def test_what_reads_a_symbol_can_be_sent_to_a_process(here: Path, sp500: pd.DataFrame) -> None:
    """Two processes here would load Great Expectations twice more; tests of the build have them."""
    tools = Tools.open(load_settings())
    read = functools.partial(symbol_bars, tools, tools.definitions, here / "bars" / "ONE.parquet")
    sent = ForkingPickler.loads(ForkingPickler.dumps(read))
    pd.testing.assert_frame_equal(sent(), sp500.iloc[:300], check_freq=False)


def test_a_symbol_that_does_not_pass_the_gate_is_named(here: Path, sp500: pd.DataFrame) -> None:
    said("--universe", "bars", "--compute", "out", "--set", RANK, *NAMES, "--processes", "1")
    before = directory_hashes(here / "out")
    bad = sp500.iloc[:300].copy()
    bad.iloc[10:40, 1] = 1.0
    bad.to_parquet(here / "bars" / "BAD.parquet")
    with pytest.raises(BellwetherError, match=r"symbol BAD: ") as caught:
        said("--universe", "bars", "--compute", "out", "--set", RANK, *NAMES, "--processes", "1")
    assert caught.value.exit_code == 3
    assert directory_hashes(here / "out") == before


def test_the_probes_run_over_a_universe() -> None:
    text = said("--universe", "bars", "--check", "--set", RANK, *NAMES)
    assert "3 features: nothing is held against any of them" in text
    assert "3 symbols of bars" in text


def test_a_run_refuses_to_compare_symbols() -> None:
    with pytest.raises(ConfigurationError) as caught:
        said("--check", "--set", RANK)
    assert len(caught.value.faults) == 2
    assert all("--universe DIR" in fault for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--universe", "bars"], "--compute or --check"),
        (["--universe", "bars", "--explain", "rsi_14"], "--compute or --check"),
        (["--universe", "bars", "--bars", "x.csv", "--check"], "give one of them"),
        (["--processes", "2", "--check"], "--processes is for"),
        (["--universe", "bars", "--compute", "bars"], "ONE.parquet"),
        (["--universe", "none", "--compute", "out"], "not a directory"),
        (["--universe", "empty", "--compute", "out"], "no file that ends in"),
        (["--universe", "twice", "--compute", "out"], "both of A"),
    ],
)
def test_usage_faults(arguments: list[str], rule: str, here: Path) -> None:
    (here / "empty").mkdir()
    (here / "twice").mkdir()
    for name in ("A.csv", "A.parquet"):
        (here / "twice" / name).touch()
    with pytest.raises(UsageError, match=rule):
        said(*arguments)


def test_a_timeframe_that_is_not_coarser_is_refused() -> None:
    with pytest.raises((DataError, ConfigurationError), match="symbol ONE"):
        said(
            "--universe",
            "bars",
            "--compute",
            "out",
            "--set",
            "features.user.x=on('4h', close) / close",
            "--name",
            "x",
            "--processes",
            "1",
        )
